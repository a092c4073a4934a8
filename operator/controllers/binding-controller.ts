import { isNotFound } from '../kube/kube-error.ts';
import type { BindingKind } from '../planning/bindings.ts';
import type { KubeAction } from '../planning/kube-actions.ts';
import { isHeld } from '../planning/object-plan.ts';
import { type BindingWorld, isGoing, planBinding } from '../planning/plan-binding.ts';
import { type KubeObject, parseKeyText } from '../resources/kube-object.ts';
import {
  type PersistentVolume,
  type PersistentVolumeClaim,
  persistentVolumeClaims,
} from '../resources/storage-kinds.ts';
import { BindingFacts } from './binding-facts.ts';
import type { ControllerContext } from './controller-context.ts';
import type { Result } from './work-queue.ts';

/** More rounds than any course of things takes: claim, volume, capacity, condition. */
const maxRounds = 8;

/**
 * Keeps the PersistentVolume and the claim of each object that has them; removes them before what is behind them goes.
 * One key is one object: `Snapshot/shop/before-upgrade`. How it stands is said in the object's status by the controller of
 * its kind.
 */
export class BindingController {
  readonly #context: ControllerContext;
  readonly #facts: BindingFacts;

  constructor(context: ControllerContext) {
    this.#context = context;
    this.#facts = new BindingFacts(context);
  }

  async reconcile(key: string): Promise<Result> {
    const slash = key.indexOf('/');
    const kind = key.slice(0, slash) as BindingKind;
    const object = parseKeyText(key.slice(slash + 1));
    // PersistentVolumes belong to no namespace: those of objects that are not seen here are heard of too.
    if (!this.#context.caches.covers(object.namespace)) return { type: 'done' };
    for (let round = 0; round < maxRounds; round += 1) {
      const worlds = await this.#facts.worlds(kind, object);
      const actions = worlds.filter(mayAct).flatMap(planBinding);
      for (const action of actions) await this.#perform(action);
      if (actions.length === 0) return this.#next(worlds);
    }
    return { type: 'again', afterMs: this.#context.intervals.transitionalMs };
  }

  /** Changes of objects are heard of, except those of pods. */
  #next(worlds: readonly BindingWorld[]): Result {
    const waits = worlds.some((world) => isGoing(world) && world.users.length > 0);
    return waits ? { type: 'again', afterMs: this.#context.intervals.transitionalMs } : { type: 'done' };
  }

  async #perform(action: KubeAction): Promise<void> {
    const { api, log } = this.#context;
    switch (action.verb) {
      case 'create':
        this.#remember(await api.create(action.resource, action.object));
        break;
      case 'patch':
        try {
          this.#remember(await api.patch(action.resource, action.key, action.patch, subresourceOf(action)));
        } catch (error) {
          // What it was about is gone; the watch tells soon.
          if (!isNotFound(error)) throw error;
          return;
        }
        break;
      case 'delete':
        await api.delete(action.resource, action.key, { uid: action.uid });
        // It may be gone or only marked; what is there now is what counts.
        await this.#refresh(action);
        break;
    }
    const { kind } = action.resource;
    const name = action.verb === 'create' ? action.object.metadata.name : action.key.name;
    log.info({ kind, name }, `${action.verb} done`);
  }

  async #refresh({ resource, key }: KubeAction & { verb: 'delete' }): Promise<void> {
    const left = await this.#context.api.get(resource, key);
    if (left !== undefined) this.#remember(left);
  }

  #remember(object: KubeObject): void {
    const { persistentVolumes, claims } = this.#context.caches;
    if (object.kind === persistentVolumeClaims.kind) claims.put(object as PersistentVolumeClaim);
    else persistentVolumes.put(object as PersistentVolume);
  }
}

/** Before the finalizer is on an object nothing is made of it. */
function mayAct({ owner }: BindingWorld): boolean {
  return owner === undefined || isHeld(owner) || owner.metadata.deletionTimestamp !== undefined;
}

function subresourceOf(action: KubeAction & { verb: 'patch' }): { subresource?: 'status' } {
  return action.subresource === undefined ? {} : { subresource: action.subresource };
}
