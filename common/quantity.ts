import { UnderstudyError } from './errors.ts';

const factors: Readonly<Record<string, bigint>> = {
  '': 1n,
  k: 1000n,
  M: 1000n ** 2n,
  G: 1000n ** 3n,
  T: 1000n ** 4n,
  P: 1000n ** 5n,
  E: 1000n ** 6n,
  Ki: 1024n,
  Mi: 1024n ** 2n,
  Gi: 1024n ** 3n,
  Ti: 1024n ** 4n,
  Pi: 1024n ** 5n,
  Ei: 1024n ** 6n,
};

/** Kubernetes quantities that make sense for bytes: a decimal number with an optional suffix. */
export const quantityPattern = /^([0-9]+)(?:\.([0-9]{1,9}))?(|[kMGTPE]|[KMGTPE]i)$/;

/**
 * Bytes of a Kubernetes quantity ("10Gi", "1.5G", "4096") or of a plain number. Fractions of a byte are rounded up, as
 * Kubernetes does.
 * Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
 * @throws UnderstudyError Invalid when it is no quantity, or more than 2^53 - 1 bytes.
 */
export function parseQuantity(quantity: string | number): number {
  const text = String(quantity);
  const match = quantityPattern.exec(text);
  if (!match) {
    throw new UnderstudyError('Invalid', `"${text}" is not a size: expected bytes or a quantity such as 10Gi or 500M`);
  }
  const [, whole = '', fraction = '', suffix = ''] = match;
  const scale = 10n ** BigInt(fraction.length);
  const scaled = BigInt(whole + fraction) * (factors[suffix] ?? 1n);
  const bytes = (scaled + scale - 1n) / scale;
  if (bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new UnderstudyError('Invalid', `"${text}" is too large: at most ${Number.MAX_SAFE_INTEGER} bytes`);
  }
  return Number(bytes);
}

/** Bytes as people read them, exact where a binary suffix divides them, else with one decimal: "10Gi", "1.5Mi", "512". */
export function formatBytes(bytes: number): string {
  const suffixes = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi'];
  let value = bytes;
  let index = 0;
  while (value >= 1024 && index < suffixes.length - 1) {
    value /= 1024;
    index += 1;
  }
  const digits = Number.isInteger(value) ? String(value) : value.toFixed(1);
  return `${digits}${suffixes[index]}`;
}
