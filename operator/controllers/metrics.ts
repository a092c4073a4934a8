/** What the operator counts. */
export interface OperatorMetrics {
  reconciled(controller: string, result: 'done' | 'retry' | 'error', seconds: number): void;
  queued(controller: string, keys: number): void;
  watchRestarted(kind: string): void;
  acted(action: string, result: 'done' | 'failed'): void;
}

export const noMetrics: OperatorMetrics = { reconciled() {}, queued() {}, watchRestarted() {}, acted() {} };
