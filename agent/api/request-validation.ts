import type { FastifySchema, FastifySchemaCompiler } from 'fastify';
import { z } from 'zod';
import { validate } from '../../common/validation.ts';
import { nameSchema } from './contract/fields.ts';
import { InvalidRequest } from './problem.ts';

export const volumeParameters = z.strictObject({ volume: nameSchema });
export const snapshotParameters = volumeParameters.extend({ snapshot: nameSchema });
export const groupParameters = volumeParameters.extend({ attempt: nameSchema });
export const holdParameters = snapshotParameters.extend({ hold: nameSchema });
export const volumeMountParameters = volumeParameters.extend({ mount: nameSchema });
export const snapshotMountParameters = snapshotParameters.extend({ mount: nameSchema });

/** Checks parameters and bodies against the zod schemas of the contract. No body at all counts as an empty object. */
export const compileValidator: FastifySchemaCompiler<FastifySchema | z.ZodType> = ({ schema, httpPart }) => {
  if (!(schema instanceof z.ZodType)) throw new TypeError('every schema of a route is a zod schema');
  return (data: unknown) => {
    const result = validate(schema, httpPart === 'body' ? (data ?? {}) : data);
    return result.ok ? { value: result.value } : { error: new InvalidRequest(result.violations) };
  };
};
