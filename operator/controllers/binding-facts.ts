import { errorMessage } from '../../common/errors.ts';
import type { BindingFact } from '../planning/binding-fact.ts';
import {
  type BindingKind,
  claimNameOf,
  latestBinding,
  persistentVolumeNameOf,
  snapshotBinding,
  volumeBinding,
  type WantedBinding,
} from '../planning/bindings.ts';
import { type BindingWorld, bindingFact, waitsForUsers } from '../planning/plan-binding.ts';
import { isUser } from '../planning/plan-eviction.ts';
import { kubeTime } from '../resources/conditions.ts';
import { pods } from '../resources/core-kinds.ts';
import { ownerAnnotation, ownerKindLabel, ownerUidLabel } from '../resources/group.ts';
import { keyText, type ObjectKey } from '../resources/kube-object.ts';
import type { PrimaryVolume } from '../resources/primary-volume.ts';
import type { Snapshot } from '../resources/snapshot.ts';
import type { StandbyMirror } from '../resources/standby-mirror.ts';
import type { PersistentVolume } from '../resources/storage-kinds.ts';
import type { ControllerContext } from './controller-context.ts';

/** A kind with one of its objects. */
type Owner =
  | { readonly kind: 'PrimaryVolume'; readonly object: PrimaryVolume }
  | { readonly kind: 'StandbyMirror'; readonly object: StandbyMirror }
  | { readonly kind: 'Snapshot'; readonly object: Snapshot };

/** Gathers what is known about the PersistentVolumes and claims of our objects. */
export class BindingFacts {
  readonly #context: ControllerContext;

  constructor(context: ControllerContext) {
    this.#context = context;
  }

  async of(owner: Owner): Promise<BindingFact> {
    return bindingFact(await this.#worldOf(owner));
  }

  /**
   * What there is under the key of an object: its own PersistentVolume and claim, and PersistentVolumes of objects of that
   * name that are gone.
   */
  async worlds(kind: BindingKind, key: ObjectKey): Promise<BindingWorld[]> {
    const owner = this.#find(kind, key);
    const left = this.#persistentVolumesOf(kind, key)
      .filter(({ metadata }) => metadata.labels?.[ownerUidLabel] !== owner?.object.metadata.uid)
      .map((volume) => this.#worldWithoutOwner(kind, volume));
    // Before the finalizer is on an object nothing is made of it.
    return owner === undefined ? left : [await this.#worldOf(owner), ...left];
  }

  async #worldOf(owner: Owner): Promise<BindingWorld> {
    const { caches, clock } = this.#context;
    const { kind, object } = owner;
    const { namespace = '' } = object.metadata;
    const claimName = claimNameOf(kind, object);
    const world = {
      now: kubeTime(clock.wallTimeMs()),
      kind,
      owner: object,
      binding: this.#bindingOf(owner),
      claimName,
      persistentVolume: caches.persistentVolumes.get({ name: persistentVolumeNameOf(kind, object) }),
      claim: caches.claims.get({ namespace, name: claimName }),
    };
    return { ...world, users: waitsForUsers(world) ? await this.#users(namespace, claimName) : [] };
  }

  #worldWithoutOwner(kind: BindingKind, volume: PersistentVolume): BindingWorld {
    return {
      now: kubeTime(this.#context.clock.wallTimeMs()),
      kind,
      owner: undefined,
      binding: undefined,
      claimName: volume.spec.claimRef?.name ?? '',
      persistentVolume: volume,
      claim: undefined,
      users: [],
    };
  }

  #bindingOf({ kind, object }: Owner): WantedBinding {
    const { volumes, mirrors, nodes } = this.#context.caches;
    const { namespace = '' } = object.metadata;
    const volumeNamed = (name: string | undefined) =>
      name === undefined ? undefined : volumes.get({ namespace, name });
    switch (kind) {
      case 'PrimaryVolume':
        return volumeBinding(object);
      case 'StandbyMirror':
        return latestBinding(object, volumeNamed(object.spec?.primaryVolumeRef?.name));
      case 'Snapshot': {
        const { mirror, volume } = object.spec?.source ?? {};
        const of = mirror === undefined ? undefined : mirrors.get({ namespace, name: mirror });
        return snapshotBinding(object, volumeNamed(of?.spec?.primaryVolumeRef?.name ?? volume), nodes.list());
      }
    }
  }

  #find(kind: BindingKind, key: ObjectKey): Owner | undefined {
    const { volumes, mirrors, snapshots } = this.#context.caches;
    switch (kind) {
      case 'PrimaryVolume': {
        const object = volumes.get(key);
        return object && { kind, object };
      }
      case 'StandbyMirror': {
        const object = mirrors.get(key);
        return object && { kind, object };
      }
      case 'Snapshot': {
        const object = snapshots.get(key);
        return object && { kind, object };
      }
    }
  }

  #persistentVolumesOf(kind: BindingKind, key: ObjectKey): PersistentVolume[] {
    const owner = keyText(key);
    return this.#context.caches.persistentVolumes
      .list()
      .filter(
        ({ metadata }) =>
          metadata.labels?.[ownerKindLabel] === kind && metadata.annotations?.[ownerAnnotation] === owner,
      );
  }

  /** Asked for when it is needed only: nothing else has to know of every pod. */
  async #users(namespace: string, claim: string): Promise<string[]> {
    const { api, log } = this.#context;
    try {
      const { items } = await api.list(pods, { namespace });
      return items
        .filter((pod) => isUser(pod, claim))
        .map(({ metadata }) => metadata.name)
        .sort();
    } catch (error) {
      // Kubernetes itself keeps a claim that is in use; what is lost is only the names.
      log.warn({ namespace, claim, error: errorMessage(error) }, 'could not list the pods that use a claim');
      return [];
    }
  }
}
