import type { Clock } from '../../common/clock.ts';
import { errorMessage, UnderstudyError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { ArbitratedCopy } from '../api/contract/arbiter-record.ts';
import type { Arbiter, ArbiterQuestion } from '../mirror/arbiter.ts';
import type { ArbiterAnswer } from '../mirror/mirror-state.ts';
import type { KubeAccess } from './kube-access.ts';
import { type KubeAnswer, KubeClient } from './kube-client.ts';
import { decideSwap, isSwapped, type RecordHolder, recordHolderSchema } from './record-swap.ts';

/** For each of the two requests of a question. Together they stay below the acknowledgement timeout. */
const requestTimeoutMs = 4_000;

export interface KubernetesArbiterOptions {
  /** The name of this node, as the record has it. */
  readonly node: string;
  readonly access: KubeAccess;
  readonly clock: Clock;
  readonly log: Log;
}

/**
 * The API server as arbiter: `status.arbiter` of the PrimaryVolume is read and swapped, under its resourceVersion. What is
 * not answered with the swapped object itself is `unreachable`; whoever asks, asks again, and then reads what became of it
 * (rule 2).
 */
export class KubernetesArbiter implements Arbiter {
  readonly #node: string;
  readonly #client: KubeClient;
  readonly #log: Log;

  constructor({ node, access, clock, log }: KubernetesArbiterOptions) {
    this.#node = node;
    this.#client = new KubeClient(access, clock, requestTimeoutMs);
    this.#log = log;
  }

  markOutdated(question: ArbiterQuestion): Promise<ArbiterAnswer> {
    return this.#mark(question, 'Outdated');
  }

  markInSync(question: ArbiterQuestion): Promise<ArbiterAnswer> {
    return this.#mark(question, 'InSync');
  }

  markDropped(question: ArbiterQuestion): Promise<ArbiterAnswer> {
    return this.#mark(question, 'Outdated');
  }

  close(): void {
    this.#client.close();
  }

  async #mark(question: ArbiterQuestion, state: ArbitratedCopy['state']): Promise<ArbiterAnswer> {
    const { volume, mirror, epoch } = question;
    const labels = { volume, mirror, epoch, state };
    try {
      const path = pathOf(question.key);
      const decision = decideSwap(await this.#read(path), this.#node, question, state);
      if (decision.do === 'answer') {
        this.#log.warn({ ...labels, answer: decision.answer }, `the arbiter's record: ${decision.why}`);
        return decision.answer;
      }
      const swapped = parseHolder(await this.#client.request('PATCH', `${path}/status`, decision.patch));
      if (!isSwapped(swapped, decision.patch)) {
        throw new UnderstudyError('Protocol', 'the answer does not have what was swapped in: is the CRD up to date?');
      }
      this.#log.info(labels, 'marked at the arbiter');
      return 'granted';
    } catch (error) {
      this.#log.warn({ ...labels, error: errorMessage(error) }, 'the arbiter could not be asked; it is asked again');
      return 'unreachable';
    }
  }

  async #read(path: string): Promise<RecordHolder> {
    return parseHolder(await this.#client.request('GET', path));
  }
}

/** Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris */
function pathOf(key = ''): string {
  const [namespace, name, ...rest] = key.split('/');
  if (!namespace || !name || rest.length > 0) {
    throw new UnderstudyError('Invalid', `expected an arbiterKey "<namespace>/<name>", got "${key}"`);
  }
  const within = `namespaces/${encodeURIComponent(namespace)}/primaryvolumes/${encodeURIComponent(name)}`;
  return `/apis/understudy.dev/v1alpha1/${within}`;
}

function parseHolder({ status, body }: KubeAnswer): RecordHolder {
  if (status !== 200) {
    const message = typeof body === 'object' && body !== null ? Reflect.get(body, 'message') : undefined;
    throw new UnderstudyError('Unavailable', `the API server answered ${status}: ${String(message ?? 'no reason')}`);
  }
  const holder = recordHolderSchema.safeParse(body);
  if (holder.success) return holder.data;
  throw new UnderstudyError('Protocol', `the API server's answer is no PrimaryVolume: ${holder.error.message}`);
}
