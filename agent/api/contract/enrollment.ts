import { z } from 'zod';

/**
 * How an agent asks an operator for a certificate: POST to this path of the operator's enrollment endpoint, with the
 * agent's service account token as a bearer token. Decided in docs/decisions/agent-enrollment.md.
 */
export const enrollmentPath = '/v1/enroll';

/** Far above any request for a key that makes sense. */
const maxRequestLength = 8 * 1024;

export const enrollmentRequestSchema = z.strictObject({
  /** PKCS #10, in PEM. Its key is what counts; the name in the certificate is the operator's to say. */
  request: z.string().max(maxRequestLength),
});

export const enrollmentAnswerSchema = z.object({
  /** PEM. */
  certificate: z.string(),
});

export type EnrollmentRequest = z.output<typeof enrollmentRequestSchema>;
