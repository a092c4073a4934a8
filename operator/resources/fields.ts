import { z } from 'zod';
import { nameSchema } from '../../agent/api/contract/fields.ts';
import { parseQuantity, quantityPattern } from '../../common/quantity.ts';
import { durationPattern } from './duration.ts';

/**
 * Bytes as a Kubernetes quantity. It is kept as people wrote it (a number or a text); parseQuantity makes bytes of it.
 */
export function quantityField(description: string) {
  return z
    .union([z.int().positive(), z.string().regex(quantityPattern, 'expected bytes or a quantity such as 10Gi')])
    .refine(isPositiveQuantity, 'expected a quantity of at least one byte and less than 8Pi')
    .meta({ description, 'x-kubernetes-int-or-string': true, pattern: quantityPattern.source });
}

function isPositiveQuantity(value: string | number): boolean {
  try {
    return parseQuantity(value) > 0;
  } catch {
    return false;
  }
}

/** A stretch of time such as "30s"; parseDurationMs makes milliseconds of it. */
export function durationField(description: string) {
  return z
    .string()
    .max(32)
    .regex(durationPattern, 'expected a duration such as 500ms, 30s or 24h')
    .meta({ description });
}

/** The name of a pool at the agents. */
export function poolField(description: string) {
  return nameSchema.max(63).meta({ description });
}

/** The name of another object in the same namespace. */
export function objectNameField(description: string) {
  return z
    .string()
    .max(253)
    .regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, 'expected the name of an object')
    .meta({ description });
}

/** A StorageClass that need not exist; the empty name means no class at all. It cannot be a default: Kubernetes 1.20 takes it for null. */
export function storageClassField(description: string) {
  return z
    .string()
    .max(253)
    .regex(/^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$/, 'expected the name of a StorageClass, or nothing')
    .optional()
    .meta({ description });
}

/** As agents take them; see volumeMountSchema. */
export function mountOptionsField(description: string) {
  return z
    .array(z.string().regex(/^[A-Za-z0-9_=.,:/-]{1,128}$/, 'expected a mount option such as noatime'))
    .max(32)
    .meta({ description });
}

export function nodeNameField(description: string) {
  return objectNameField(description);
}

/** Bounded, because the API server estimates what a CEL rule on it may cost. */
const maxLabels = 16;

/** All of these labels: at least one. */
export function matchLabelsField(description: string) {
  return z
    .record(z.string().max(317), z.string().max(63))
    .refine((labels) => Object.keys(labels).length > 0, 'expected at least one label')
    .refine((labels) => Object.keys(labels).length <= maxLabels, `expected at most ${maxLabels} labels`)
    .meta({ description, minProperties: 1, maxProperties: maxLabels });
}

export function nodeSelectorField(description: string) {
  return matchLabelsField(description);
}

export const bufferField = z.object({
  pool: poolField('The pool, on the same node, in which the buffer lives: an extra disk, if possible.'),
  capacity: quantityField('Bytes that the preserved content of all snapshots together may take.'),
  maxSnapshots: z
    .int()
    .min(1)
    .max(512)
    .default(32)
    .meta({ description: 'Snapshots kept at a time; one more is refused.' }),
});

/** Bytes, in a status. */
export function bytesField(description: string) {
  return z.int().min(0).meta({ description, format: 'int64' });
}

/** The immutable fields of a spec, in a status: what they are is checked by the spec's own schema. */
export function acceptedField(description: string) {
  return z
    .record(z.string(), z.unknown())
    .optional()
    .meta({ description, 'x-kubernetes-preserve-unknown-fields': true });
}
