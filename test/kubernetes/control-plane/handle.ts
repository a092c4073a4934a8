/** A Kubernetes API that tests may do with as they like. */
export interface ControlPlane {
  /** Path of an administrator's kubeconfig. */
  kubeconfig: string;
  /** Path of a kubectl that fits this version. */
  kubectl: string;
  /** Where it comes from, for people. */
  source: string;
  /** `v1.34.1` and the like. */
  version: string;
  /** Without it namespaces are never emptied and nothing is garbage-collected. */
  hasControllerManager: boolean;
  /** Where the API server writes down who changed what; see audit-log.ts. */
  auditLog?: string;
  /** Only where the API server is a process of ours. */
  apiServer?: ApiServerProcess;
  /** The processes that run for it. */
  pids(): number[];
  stop(): Promise<void>;
}

export interface ApiServerProcess {
  /** SIGKILL. */
  kill(): Promise<void>;
  /** A start on the same port and data, after `kill`; resolves when it is ready. */
  start(): Promise<void>;
  /** Stops it as a hung machine would: connections stay open, and nothing answers. */
  pause(): void;
  resume(): void;
}
