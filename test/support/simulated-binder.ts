import type { KubeApi } from '../../operator/kube/kube-api.ts';
import { isConflict, isNotFound } from '../../operator/kube/kube-error.ts';
import { pods } from '../../operator/resources/core-kinds.ts';
import { type KubeObject, keyOf } from '../../operator/resources/kube-object.ts';
import type { Resource } from '../../operator/resources/resource.ts';
import {
  type PersistentVolume,
  type PersistentVolumeClaim,
  persistentVolumeClaims,
  persistentVolumes,
  storageClasses,
} from '../../operator/resources/storage-kinds.ts';

const claimProtection = 'kubernetes.io/pvc-protection';
const volumeProtection = 'kubernetes.io/pv-protection';

/**
 * What kube-controller-manager does with PersistentVolumes and claims, for an API in memory: says who is to provision,
 * binds what names each other, protects what is in use, marks what is released. It looks again and again until stopped.
 */
export class SimulatedBinder {
  readonly #api: KubeApi;
  readonly #timer: NodeJS.Timeout;
  #running = Promise.resolve();

  constructor(api: KubeApi) {
    this.#api = api;
    this.#timer = setInterval(() => {
      this.#running = this.#running.then(() => this.#look());
    }, 10);
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer);
    await this.#running;
  }

  async #look(): Promise<void> {
    try {
      for (const claim of (await this.#api.list(persistentVolumeClaims)).items) await this.#lookAtClaim(claim);
      for (const volume of (await this.#api.list(persistentVolumes)).items) await this.#lookAtVolume(volume);
    } catch (error) {
      if (!isConflict(error) && !isNotFound(error)) throw error;
    }
  }

  async #lookAtClaim(claim: PersistentVolumeClaim): Promise<void> {
    if (await this.#protect(persistentVolumeClaims, claim, claimProtection, () => this.#isUsed(claim))) return;
    const { annotations = {}, deletionTimestamp } = claim.metadata;
    if (deletionTimestamp !== undefined || claim.spec.volumeName !== undefined) return;
    const storageClass = await this.#api.get(storageClasses, { name: claim.spec.storageClassName ?? '' });
    const waits = storageClass?.volumeBindingMode === 'WaitForFirstConsumer';
    if (storageClass === undefined || (waits && annotations['volume.kubernetes.io/selected-node'] === undefined))
      return;
    const provisioner = { 'volume.kubernetes.io/storage-provisioner': storageClass.provisioner };
    await this.#api.patch(persistentVolumeClaims, keyOf(claim), { metadata: { annotations: provisioner } });
  }

  async #lookAtVolume(volume: PersistentVolume): Promise<void> {
    const { claimRef } = volume.spec;
    const claim = claimRef && (await this.#api.get(persistentVolumeClaims, claimRef));
    const isTheirs = claim !== undefined && (claimRef?.uid ?? claim.metadata.uid) === claim.metadata.uid;
    const isBound = isTheirs && (claim.spec.volumeName ?? volume.metadata.name) === volume.metadata.name;
    if (await this.#protect(persistentVolumes, volume, volumeProtection, async () => isBound)) return;
    if (isBound) await this.#bind(volume, claim);
    else if (claimRef?.uid !== undefined) await this.#setPhase(volume, 'Released');
  }

  async #bind(volume: PersistentVolume, claim: PersistentVolumeClaim): Promise<void> {
    const { name } = volume.metadata;
    const claimRef = { uid: claim.metadata.uid };
    await this.#api.patch(persistentVolumes, { name }, { spec: { claimRef } });
    await this.#setPhase(volume, 'Bound');
    const bound = await this.#api.patch(persistentVolumeClaims, keyOf(claim), { spec: { volumeName: name } });
    if (bound.status?.phase === 'Bound') return;
    const status = { phase: 'Bound', capacity: volume.spec.capacity };
    await this.#api.patch(persistentVolumeClaims, keyOf(claim), { status }, { subresource: 'status' });
  }

  async #setPhase(volume: PersistentVolume, phase: string): Promise<void> {
    await this.#api.patch(persistentVolumes, keyOf(volume), { status: { phase } }, { subresource: 'status' });
  }

  /** @returns whether there is nothing more to do with the object. */
  async #protect<T extends KubeObject>(
    resource: Resource<T>,
    object: T,
    finalizer: string,
    isUsed: () => Promise<boolean>,
  ): Promise<boolean> {
    const { finalizers = [], deletionTimestamp, resourceVersion } = object.metadata;
    const write = (left: readonly string[]) =>
      this.#api.patch(resource, keyOf(object), { metadata: { resourceVersion, finalizers: left } });
    if (deletionTimestamp === undefined) {
      if (!finalizers.includes(finalizer)) await write([...finalizers, finalizer]);
      return !finalizers.includes(finalizer);
    }
    if (finalizers.includes(finalizer) && !(await isUsed()))
      await write(finalizers.filter((name) => name !== finalizer));
    return true;
  }

  async #isUsed({ metadata }: PersistentVolumeClaim): Promise<boolean> {
    const { items } = await this.#api.list(pods, { namespace: metadata.namespace ?? '' });
    return items.some(({ spec }) =>
      spec?.volumes?.some(({ persistentVolumeClaim }) => persistentVolumeClaim?.claimName === metadata.name),
    );
  }
}
