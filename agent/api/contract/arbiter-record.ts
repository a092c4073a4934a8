import { z } from 'zod';

const epochField = (description: string) => z.int().min(1).meta({ description, format: 'int64' });

/** What is agreed about one copy other than the primary's. It counts only while its epoch is that of the record. */
export const arbitratedCopySchema = z.object({
  name: z.string().meta({ description: 'The name of the copy.' }),
  state: z.enum(['InSync', 'Outdated']).meta({
    description:
      'InSync: the primary acknowledges nothing that this copy does not hold. Outdated: it may acknowledge without it.',
  }),
  epoch: epochField('The epoch in which that was agreed; it counts in no other.'),
});

/**
 * What is swapped as a whole when a standby is lost, comes back, or becomes the primary: `status.arbiter` of a
 * PrimaryVolume. The agent of `node` changes the states of copies in its own epoch; the operator changes epoch and node.
 *
 * `revision` grows by one with each swap, also with one that changes nothing else: a swap that its sender has given up on,
 * and that arrives late, then finds another resourceVersion, and fails.
 */
export const arbiterRecordSchema = z.object({
  revision: z.int().min(1).meta({ description: 'Grows by one with each swap of this record.', format: 'int64' }),
  epoch: epochField('The epoch that the volume is in.'),
  since: epochField('The epoch in which that node became the primary; it may have been given newer ones since.'),
  node: z.string().meta({ description: 'The node of the primary of this epoch.' }),
  copy: z.string().meta({ description: "The name of the primary's copy." }),
  copies: z
    .array(arbitratedCopySchema)
    .meta({ description: 'The other copies, as far as something was agreed of them.' }),
  superseded: z
    .array(
      z.object({
        name: z.string().meta({ description: 'The name of the copy.' }),
        epoch: epochField('The last epoch in which it was the primary.'),
      }),
    )
    .optional()
    .meta({
      description:
        'Copies that were the primary, and were followed by one that held all they had acknowledged: they return by themselves.',
    }),
  divergent: z.array(z.string()).meta({
    description:
      'Copies that may have acknowledged writes which the primary does not have; nothing is copied over them.',
  }),
  lossAccepted: z
    .boolean()
    .optional()
    .meta({ description: 'The promotion of this epoch was ordered although acknowledged writes may be lost by it.' }),
  readersEnd: z.boolean().optional().meta({
    description:
      'With the promotion of this epoch those who read snapshots of that copy are ended (duringBackup Abort).',
  }),
});

export type ArbiterRecord = z.output<typeof arbiterRecordSchema>;
export type ArbitratedCopy = z.output<typeof arbitratedCopySchema>;
