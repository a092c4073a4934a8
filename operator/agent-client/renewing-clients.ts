import type { Clock } from '../../common/clock.ts';
import type { AgentClient } from './agent-client.ts';
import { HttpAgentClient } from './http-agent-client.ts';
import type { AgentTls } from './http-request.ts';

/** The clients of agents, one per node and address, made anew when the operator's certificates are. */
export class RenewingClients {
  readonly #clock: Clock;
  readonly #clients = new Map<string, { readonly url: string; readonly client: AgentClient }>();
  #tls: AgentTls | undefined;

  constructor(clock: Clock, tls: AgentTls | undefined) {
    this.#clock = clock;
    this.#tls = tls;
  }

  /** Requests that are made from now on use these certificates. */
  renew(tls: AgentTls): void {
    this.#tls = tls;
    this.#clients.clear();
  }

  /** Undefined for an https address while there are no certificates. */
  find(node: string, url: string): AgentClient | undefined {
    const known = this.#clients.get(node);
    if (known?.url === url) return known.client;
    const tls = url.startsWith('https:') ? this.#tls : undefined;
    if (url.startsWith('https:') && tls === undefined) return undefined;
    const client = new HttpAgentClient({ node, url, clock: this.#clock, tls });
    this.#clients.set(node, { url, client });
    return client;
  }
}
