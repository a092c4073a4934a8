import { readFile } from 'node:fs/promises';
import { createSecureContext } from 'node:tls';
import type { Clock, Timer } from '../common/clock.ts';
import { errorMessage, UnderstudyError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import type { TlsMaterial } from './api/listener.ts';
import type { TlsConfig } from './config.ts';

/** Certificates are renewed days before they expire; a minute does not matter. */
const checkIntervalMs = 60_000;

/**
 * Reads the certificates of the configuration; undefined where it says insecure.
 * @throws UnderstudyError Invalid, naming the file that is missing, or what does not fit
 */
export async function readTlsFiles(config: TlsConfig): Promise<TlsMaterial | undefined> {
  if ('insecure' in config) return undefined;
  const material = {
    ca: await readPem(config.ca, 'tls.ca'),
    cert: await readPem(config.cert, 'tls.cert'),
    key: await readPem(config.key, 'tls.key'),
  };
  try {
    createSecureContext(material);
  } catch (cause) {
    const files = `${config.ca}, ${config.cert} and ${config.key}`;
    throw new UnderstudyError('Invalid', `${files} are not certificates with their key`, { cause });
  }
  return material;
}

/**
 * Calls back with new certificates whenever the files have changed. Files that do not fit, as when one of them has been
 * replaced and the others not yet, are left alone until the next look.
 */
export function watchTlsFiles(
  config: TlsConfig,
  current: TlsMaterial | undefined,
  { clock, log, onChange }: { clock: Clock; log: Log; onChange: (material: TlsMaterial) => void },
): Timer {
  let known = current;
  let timer: Timer | undefined;
  let cancelled = false;
  const look = async () => {
    try {
      const found = await readTlsFiles(config);
      if (found !== undefined && !cancelled && !isSame(found, known)) {
        known = found;
        onChange(found);
        log.info({}, 'certificates renewed');
      }
    } catch (error) {
      log.warn({}, `certificates cannot be renewed: ${errorMessage(error)}`);
    }
    schedule();
  };
  const schedule = () => {
    if (!cancelled) timer = clock.after(checkIntervalMs, () => void look());
  };
  if (current !== undefined) schedule();
  return {
    cancel: () => {
      cancelled = true;
      timer?.cancel();
    },
  };
}

function isSame(a: TlsMaterial, b: TlsMaterial | undefined): boolean {
  return a.ca === b?.ca && a.cert === b.cert && a.key === b.key;
}

async function readPem(path: string, key: string): Promise<string> {
  try {
    return await readFile(path, 'utf8');
  } catch (cause) {
    throw new UnderstudyError('Invalid', `cannot read ${path} (${key} of the configuration)`, { cause });
  }
}
