import { parseAddress } from '../../common/address.ts';
import { type Clock, delay } from '../../common/clock.ts';
import { errorMessage } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { Network } from '../../common/network.ts';
import type { AgentClient } from './agent-client.ts';

export interface AdvertisedAddressesOptions {
  readonly network: Network;
  /** The agents that there are now, by node. */
  readonly clients: () => ReadonlyMap<string, AgentClient>;
  readonly clock: Clock;
  readonly log: Log;
}

/** How often an agent is asked that has not said anything yet, and one that has. */
const firstMs = 1_000;
const againMs = 10_000;

/**
 * Where agents take mirror links on a network of their own: each of them is asked, since Kubernetes knows one address of a
 * node only.
 *
 * Invariants:
 * - None but an address in the network is given out. An agent that runs with another configuration still, as during an
 *   upgrade, has none: links to it stay as they are, and none is made.
 * - What an agent said last counts until it says something else, so that links outlive its silence.
 */
export class AdvertisedAddresses {
  readonly #options: AdvertisedAddressesOptions;
  readonly #said = new Map<string, string>();
  readonly #askedMs = new Map<string, number>();
  readonly #stopping = new AbortController();

  constructor(options: AdvertisedAddressesOptions) {
    this.#options = options;
    void this.#follow();
  }

  /** host:port, or undefined while the agent of that node has not said any that is in the network. */
  of(node: string): string | undefined {
    const said = this.#said.get(node);
    return said !== undefined && this.#options.network.contains(parseAddress(said).host) ? said : undefined;
  }

  stop(): void {
    this.#stopping.abort();
  }

  async #follow(): Promise<void> {
    const { clients, clock } = this.#options;
    const { signal } = this.#stopping;
    while (!signal.aborted) {
      const due = [...clients()].filter(([node]) => this.#isDue(node));
      await Promise.all(due.map(([node, client]) => this.#ask(node, client)));
      await delay(clock, firstMs, signal).catch(() => {});
    }
  }

  #isDue(node: string): boolean {
    if (!this.#said.has(node)) return true;
    return this.#options.clock.monotonicMs() - (this.#askedMs.get(node) ?? 0) >= againMs;
  }

  async #ask(node: string, client: AgentClient): Promise<void> {
    const { network, clock, log } = this.#options;
    this.#askedMs.set(node, clock.monotonicMs());
    try {
      const { mirrorAddress } = await client.getNode();
      if (this.#said.get(node) === mirrorAddress) return;
      this.#said.set(node, mirrorAddress);
      if (this.of(node) !== undefined) log.info({ node, mirrorAddress }, 'an agent takes mirror links here');
      else
        log.warn({ node, mirrorAddress }, `no mirrors to an agent: its address is not in ${network.text}; restart it`);
    } catch (error) {
      log.debug({ node, error: errorMessage(error) }, 'an agent does not say where it takes mirror links');
    }
  }
}
