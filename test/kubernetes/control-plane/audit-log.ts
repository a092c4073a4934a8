import { readFile } from 'node:fs/promises';

/** What the API server of a test writes down: every change of our kinds, and of leases with their content. */
export const auditPolicy = {
  apiVersion: 'audit.k8s.io/v1',
  kind: 'Policy',
  omitStages: ['RequestReceived'],
  rules: [
    {
      level: 'Request',
      verbs: ['create', 'update', 'patch', 'delete'],
      resources: [{ group: 'coordination.k8s.io', resources: ['leases'] }],
    },
    { level: 'Metadata', verbs: ['create', 'update', 'patch', 'delete'], resources: [{ group: 'understudy.dev' }] },
    { level: 'None' },
  ],
};

/** A change that was asked of the API server. */
export interface AuditedChange {
  readonly userAgent: string;
  readonly verb: string;
  readonly resource: string;
  readonly name: string;
  /** HTTP status. */
  readonly status: number;
  /** RFC 3339 with microseconds: of the request's arrival, and of the end of the answer. */
  readonly received: string;
  readonly answered: string;
  /** Of a lease: who has it after this change; empty if it was released. */
  readonly holder: string | undefined;
}

/** All that has been written down so far, in the order of the answers. */
export async function readAuditLog(file: string): Promise<AuditedChange[]> {
  const lines = (await readFile(file, 'utf8')).split('\n').filter((line) => line !== '');
  return lines.map((line) => toChange(JSON.parse(line))).sort((a, b) => (a.answered < b.answered ? -1 : 1));
}

interface AuditEvent {
  readonly userAgent?: string;
  readonly verb: string;
  readonly objectRef?: { readonly resource?: string; readonly name?: string };
  readonly responseStatus?: { readonly code?: number };
  readonly requestReceivedTimestamp: string;
  readonly stageTimestamp: string;
  readonly requestObject?: { readonly spec?: { readonly holderIdentity?: string } };
}

function toChange(event: AuditEvent): AuditedChange {
  return {
    userAgent: event.userAgent ?? '',
    verb: event.verb,
    resource: event.objectRef?.resource ?? '',
    name: event.objectRef?.name ?? '',
    status: event.responseStatus?.code ?? 0,
    received: event.requestReceivedTimestamp,
    answered: event.stageTimestamp,
    holder: event.objectRef?.resource === 'leases' ? (event.requestObject?.spec?.holderIdentity ?? '') : undefined,
  };
}
