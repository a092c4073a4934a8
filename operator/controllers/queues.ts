/** Where a change makes work. */
export interface Queues {
  readonly pools: { add(key: string): void };
  readonly volumes: { add(key: string): void };
  readonly snapshots: { add(key: string): void };
  readonly groups: { add(key: string): void };
  readonly schedules: { add(key: string): void };
  readonly restores: { add(key: string): void };
  readonly bindings: { add(key: string): void };
  readonly nodeLabels: { add(key: string): void };
  readonly provisioning: { add(key: string): void };
}
