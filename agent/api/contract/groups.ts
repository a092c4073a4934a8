import { z } from 'zod';

/** The longest that acknowledgements are held: an application that waits longer for its disk may take it for broken. */
export const maxGroupHoldMs = 10_000;

/** PUT /v1/volumes/{volume}/groups/{attempt}, at the primary. Idempotent while it holds. */
export const groupHoldRequestSchema = z.strictObject({
  /** After so long acknowledgements are let go by themselves, and the attempt is void. */
  deadlineMs: z.number().int().min(1).max(maxGroupHoldMs).default(5_000),
});

export const groupHoldViewSchema = z.object({
  attempt: z.string(),
  /**
   * Holding: no write is acknowledged. Released: none was acknowledged from the answer to PUT until DELETE. Void: they
   * were let go before, see reason; what was taken in the attempt is of no one moment.
   */
  state: z.enum(['Holding', 'Released', 'Void']),
  /** How long acknowledgements have been, or were, held. */
  heldMs: z.number(),
  reason: z.string().optional(),
});

export type GroupHoldRequest = z.output<typeof groupHoldRequestSchema>;
export type GroupHoldView = z.output<typeof groupHoldViewSchema>;
