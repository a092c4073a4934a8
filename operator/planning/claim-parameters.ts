import { z } from 'zod';
import { fsTypeSchema } from '../../agent/api/contract/mounts.ts';
import { parseQuantity, quantityPattern } from '../../common/quantity.ts';
import { formatPath, validate } from '../../common/validation.ts';
import { durationField, poolField } from '../resources/fields.ts';

/** What a StorageClass may say in its parameters. All of them are text; what is left out has a default. */
export interface ClaimParameters {
  readonly pool: string;
  readonly fsType: z.output<typeof fsTypeSchema>;
  readonly blockSize: 512 | 4096;
  readonly provisioning: 'Thick' | 'Sparse';
  readonly nodeSelector: Readonly<Record<string, string>>;
  /** Undefined for `mirror: "false"`. */
  readonly standby: StandbyParameters | undefined;
  readonly buffer: BufferParameters | undefined;
}

export interface StandbyParameters {
  readonly pool: string;
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly mode: 'Synchronous' | 'Asynchronous';
  readonly onLoss: 'Suspend' | 'Continue';
  readonly failover: {
    readonly policy: 'Manual' | 'Automatic';
    readonly after?: string;
    readonly duringBackup?: 'Abort' | 'Finish' | 'Continue';
    readonly finishWithin?: string;
    readonly evictPods?: boolean;
  };
}

export interface BufferParameters {
  readonly pool: string;
  readonly capacity: { readonly bytes: number } | { readonly percentOfSize: number };
  readonly maxSnapshots: number | undefined;
}

/** Agents run on Linux: every node that has one. */
const anyNode = 'kubernetes.io/os=linux';
const defaultBufferCapacity = '25%';
/** The same as fsType; the name that other drivers' classes use. */
const commonFsType = 'csi.storage.k8s.io/fstype';
/** What the side-car of a provisioner adds by itself when told to. */
const addedByProvisioners = /^csi\.storage\.k8s\.io\/(pvc|pv)\/(name|namespace)$/;

const booleanField = z.enum(['true', 'false']);
const selectorField = z
  .string()
  .regex(/^[^=,\s]+=[^=,\s]*(,[^=,\s]+=[^=,\s]*)*$/, 'expected labels such as "disk=ssd,zone=a"')
  .transform((text) => Object.fromEntries(text.split(',').map((label) => label.split('=', 2) as [string, string])));

const parametersSchema = z.strictObject({
  pool: poolField('').default('main'),
  fsType: fsTypeSchema.optional(),
  [commonFsType]: fsTypeSchema.optional(),
  blockSize: z.enum(['512', '4096']).default('512'),
  provisioning: z.enum(['Thick', 'Sparse']).default('Thick'),
  nodeSelector: selectorField.prefault(anyNode),
  mirror: booleanField.default('true'),
  standbyPool: poolField('').optional(),
  standbyNodeSelector: selectorField.prefault(anyNode),
  mode: z.enum(['Synchronous', 'Asynchronous']).default('Synchronous'),
  onLoss: z.enum(['Suspend', 'Continue']).default('Suspend'),
  bufferPool: poolField('').optional(),
  bufferCapacity: z
    .string()
    .refine(isCapacity, 'expected a quantity such as 10Gi, or a share of the size such as 25%')
    .optional(),
  maxSnapshots: z
    .string()
    .regex(/^[1-9][0-9]{0,2}$/, 'expected a number from 1 to 512')
    .refine((text) => Number(text) <= 512, 'expected a number from 1 to 512')
    .optional(),
  failoverPolicy: z.enum(['Manual', 'Automatic']).default('Manual'),
  failoverAfter: durationField('').optional(),
  duringBackup: z.enum(['Abort', 'Finish', 'Continue']).optional(),
  finishWithin: durationField('').optional(),
  evictPods: booleanField.optional(),
});

function isCapacity(text: string): boolean {
  return /^[1-9][0-9]{0,2}%$/.test(text) || quantityPattern.test(text);
}

type Parsed = z.output<typeof parametersSchema>;

/** The parameters that are known, in the order of the documentation. */
export const knownParameters: readonly string[] = Object.keys(parametersSchema.shape);

export type ParsedParameters =
  | { readonly ok: true; readonly value: ClaimParameters }
  | { readonly ok: false; readonly message: string };

/** Checks the parameters of a StorageClass; the message of a refusal has everything that is wrong, for people. */
export function parseClaimParameters(parameters: Readonly<Record<string, string>>): ParsedParameters {
  const given = Object.fromEntries(Object.entries(parameters).filter(([name]) => !addedByProvisioners.test(name)));
  const parsed = validate(parametersSchema, given);
  if (!parsed.ok) {
    const mistakes = parsed.violations.map(({ path, message }) => `${formatPath(path)}: ${message}`);
    return refused([...mistakes, `known parameters: ${knownParameters.join(', ')}`]);
  }
  const contradictions = contradictionsIn(parsed.value);
  return contradictions.length > 0 ? refused(contradictions) : { ok: true, value: toParameters(parsed.value) };
}

function refused(mistakes: readonly string[]): ParsedParameters {
  return { ok: false, message: `the parameters of the StorageClass: ${mistakes.join('; ')}` };
}

function contradictionsIn(parsed: Parsed): string[] {
  const common = parsed[commonFsType];
  return [
    ...(parsed.fsType !== undefined && common !== undefined && parsed.fsType !== common
      ? [`fsType and ${commonFsType} name different filesystems`]
      : []),
    ...(parsed.bufferPool === undefined && parsed.bufferCapacity !== undefined
      ? ['bufferCapacity needs bufferPool, the pool in which the buffer is to be']
      : []),
    ...(parsed.bufferPool === undefined && parsed.maxSnapshots !== undefined
      ? ['maxSnapshots needs bufferPool: without a buffer there are no snapshots']
      : []),
    ...(parsed.finishWithin !== undefined && parsed.duringBackup !== 'Finish'
      ? ['finishWithin needs duringBackup Finish: otherwise no backup is waited for']
      : []),
  ];
}

function toParameters(parsed: Parsed): ClaimParameters {
  return {
    pool: parsed.pool,
    fsType: parsed.fsType ?? parsed[commonFsType] ?? 'ext4',
    blockSize: parsed.blockSize === '512' ? 512 : 4096,
    provisioning: parsed.provisioning,
    nodeSelector: parsed.nodeSelector,
    standby: parsed.mirror === 'true' ? toStandby(parsed) : undefined,
    buffer: toBuffer(parsed),
  };
}

function toStandby(parsed: Parsed): StandbyParameters {
  const { failoverAfter, duringBackup, finishWithin, evictPods } = parsed;
  return {
    pool: parsed.standbyPool ?? parsed.pool,
    nodeSelector: parsed.standbyNodeSelector,
    mode: parsed.mode,
    onLoss: parsed.onLoss,
    failover: {
      policy: parsed.failoverPolicy,
      ...(failoverAfter === undefined ? {} : { after: failoverAfter }),
      ...(duringBackup === undefined ? {} : { duringBackup }),
      ...(finishWithin === undefined ? {} : { finishWithin }),
      ...(evictPods === undefined ? {} : { evictPods: evictPods === 'true' }),
    },
  };
}

function toBuffer({ bufferPool, bufferCapacity, maxSnapshots }: Parsed): BufferParameters | undefined {
  if (bufferPool === undefined) return undefined;
  const capacity = bufferCapacity ?? defaultBufferCapacity;
  return {
    pool: bufferPool,
    capacity: capacity.endsWith('%')
      ? { percentOfSize: Number(capacity.slice(0, -1)) }
      : { bytes: parseQuantity(capacity) },
    maxSnapshots: maxSnapshots === undefined ? undefined : Number(maxSnapshots),
  };
}
