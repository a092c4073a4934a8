/** The part of the Kubernetes API that runs commands in containers (the subresource pods/exec). */
export interface PodExec {
  /**
   * Starts a command in a container of a running pod. Whoever starts it has to watch its end or leave it.
   * @throws an error of kubeError: NotFound (pod), Invalid (no right to, or no such container), Unavailable
   */
  exec(container: ContainerRef, command: readonly string[]): Promise<RunningCommand>;
}

export interface ContainerRef {
  readonly namespace: string;
  readonly pod: string;
  /** Needed if the pod has several. */
  readonly container?: string | undefined;
}

export interface RunningCommand {
  /** The next line that it writes to standard output, or undefined when it has written its last. */
  nextLine(): Promise<string | undefined>;
  /**
   * Tells it to end: it gets a line on its standard input and, where the API server can pass that on (Kubernetes 1.30),
   * the end of it.
   */
  tellToEnd(): void;
  /** Resolves when it has ended. @throws Unavailable when the connection to it was lost: whether it still runs is not known */
  readonly ended: Promise<CommandEnd>;
  /** Gives up the connection: the command finds its standard input at its end. Nothing is learnt of it any more. */
  leave(): void;
}

export interface CommandEnd {
  readonly exitCode: number;
  /** The end of what it wrote to standard error. */
  readonly stderr: string;
}
