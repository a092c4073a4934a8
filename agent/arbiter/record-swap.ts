import { z } from 'zod';
import { type ArbiterRecord, type ArbitratedCopy, arbiterRecordSchema } from '../api/contract/arbiter-record.ts';
import type { ArbiterQuestion } from '../mirror/arbiter.ts';
import type { ArbiterAnswer } from '../mirror/mirror-state.ts';

/** The parts of a PrimaryVolume that a swap depends on. */
export const recordHolderSchema = z.object({
  metadata: z.object({ uid: z.string(), resourceVersion: z.string().min(1) }),
  status: z.object({ arbiter: arbiterRecordSchema.optional() }).optional(),
});

export type RecordHolder = z.output<typeof recordHolderSchema>;

/** What is to be done about a question, given the object as it was read. */
export type Decision =
  | { readonly do: 'answer'; readonly answer: Exclude<ArbiterAnswer, 'granted'>; readonly why: string }
  | { readonly do: 'swap'; readonly patch: SwapPatch };

/** A JSON merge patch of the status; the resourceVersion in it makes it a compare-and-swap. */
export interface SwapPatch {
  readonly metadata: { readonly resourceVersion: string };
  readonly status: { readonly arbiter: Pick<ArbiterRecord, 'revision' | 'copies'> };
}

/**
 * Decides whether the primary on `node` may change the state of a copy. Pure.
 *
 * Refused means fenced for good, so it is said only when another node is the primary of this or a newer epoch. The same
 * node in a newer epoch is about to be told; a record of an older epoch was restored from a backup, and the operator brings
 * it up to date: both times the writes wait (rule 5).
 */
export function decideSwap(
  holder: RecordHolder,
  node: string,
  { uid, epoch, mirror }: ArbiterQuestion,
  state: ArbitratedCopy['state'],
): Decision {
  const wait = (why: string): Decision => ({ do: 'answer', answer: 'unreachable', why });
  const { metadata, status } = holder;
  if (metadata.uid !== uid) return wait(`the PrimaryVolume has uid ${metadata.uid}: it is another volume`);
  const record = status?.arbiter;
  if (record === undefined) return wait('the PrimaryVolume has no status.arbiter yet');
  if (record.epoch < epoch) return wait(`the record is of epoch ${record.epoch}, this primary of ${epoch}`);
  if (record.node !== node) {
    const why = `node ${record.node} is the primary of epoch ${record.epoch}`;
    return { do: 'answer', answer: 'refused', why };
  }
  if (record.epoch > epoch) return wait(`this node is the primary of epoch ${record.epoch}, and still in ${epoch}`);
  const others = record.copies.filter(({ name }) => name !== mirror);
  const copies = [...others, { name: mirror, state, epoch }].sort((a, b) => (a.name < b.name ? -1 : 1));
  return {
    do: 'swap',
    patch: {
      metadata: { resourceVersion: metadata.resourceVersion },
      status: { arbiter: { revision: record.revision + 1, copies } },
    },
  };
}

/** Whether the object that the swap was answered with has what was swapped in: an older schema drops unknown fields. */
export function isSwapped({ status }: RecordHolder, { status: { arbiter: wanted } }: SwapPatch): boolean {
  const record = status?.arbiter;
  if (record?.revision !== wanted.revision) return false;
  return wanted.copies.every((copy) =>
    record.copies.some(({ name, state, epoch }) => name === copy.name && state === copy.state && epoch === copy.epoch),
  );
}
