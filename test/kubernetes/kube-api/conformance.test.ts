import { afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import { InMemoryKubeApi } from '../../../operator/kube/in-memory-kube-api.ts';
import type { KubeApi } from '../../../operator/kube/kube-api.ts';
import { namespaces } from '../../../operator/resources/core-kinds.ts';
import { primaryVolumes } from '../../../operator/resources/primary-volume.ts';
import { hasCel, installCrds } from '../support/crds.ts';
import { kubeApiOf } from '../support/kube-api-of.ts';
import { kubectlOf, sharedControlPlane } from '../support/kubectl.ts';
import { scenarios } from './scenarios.ts';

const plane = inject('controlPlane');
const needsControllers = /namespace goes|owned goes/;

/** What the operator is tested with in memory must behave as what it runs on: both are told the same, and compared. */
describe.skipIf('unavailable' in plane)('the Kubernetes API in memory answers like the real one', () => {
  let real: KubeApi;
  let namespace: string;
  let count = 0;

  beforeAll(async () => {
    await installCrds(kubectlOf(sharedControlPlane()), sharedControlPlane().version);
    real = kubeApiOf(sharedControlPlane());
  });

  beforeEach(async () => {
    count += 1;
    namespace = `conformance-${process.pid}-${count}`;
    await real.create(namespaces, { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace } });
  });

  afterEach(async () => {
    for (const { metadata } of (await real.list(primaryVolumes, { namespace })).items) {
      if (metadata.finalizers === undefined) continue;
      await real.patch(primaryVolumes, { namespace, name: metadata.name }, { metadata: { finalizers: null } });
    }
    await real.delete(namespaces, { name: namespace });
  });

  for (const scenario of scenarios) {
    test(scenario.name, async ({ skip }) => {
      const { hasControllerManager, version } = sharedControlPlane();
      skip(
        !hasControllerManager && needsControllers.test(scenario.name),
        'the control plane has no controller manager',
      );
      const admission = hasCel(version) ? 'with-cel' : 'without-cel';
      const inMemory = new InMemoryKubeApi({ admission, namespaces: ['default', namespace] });

      const expected = await scenario.tell(real, namespace);

      expect(await scenario.tell(inMemory, namespace)).toEqual(expected);
    });
  }
});
