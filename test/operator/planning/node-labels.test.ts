import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  hostnameOf,
  labelPlaces,
  planNodeLabels,
  primaryLabel,
  standbyLabel,
} from '../../../operator/planning/node-labels.ts';
import type { Node } from '../../../operator/resources/core-kinds.ts';
import { type PrimaryVolume, primaryVolumeSpecSchema } from '../../../operator/resources/primary-volume.ts';
import { type StandbyMirror, standbyMirrorSpecSchema } from '../../../operator/resources/standby-mirror.ts';

const apiVersion = 'understudy.dev/v1alpha1';
const covers = () => true;

function metadata(name: string, namespace = 'shop') {
  return { name, namespace, uid: `uid-of-${name}`, resourceVersion: '1' };
}

function volumeOn(node: string | undefined, name = 'data', namespace = 'shop'): PrimaryVolume {
  const spec = primaryVolumeSpecSchema.parse({ size: '1Gi', nodeName: 'a' });
  return { apiVersion, kind: 'PrimaryVolume', metadata: metadata(name, namespace), spec, status: { node } };
}

function mirrorOn(node: string): StandbyMirror {
  const spec = standbyMirrorSpecSchema.parse({ primaryVolumeRef: { name: 'data' }, nodeName: 'b' });
  return { apiVersion, kind: 'StandbyMirror', metadata: metadata('data-standby'), spec, status: { node } };
}

function nodeWith(name: string, labels: Record<string, string> = {}): Node {
  return { apiVersion: 'v1', kind: 'Node', metadata: { name, uid: name, resourceVersion: '1', labels } };
}

const label = primaryLabel(volumeOn('a'));

test('a label is what Kubernetes takes, and one of each volume and mirror', () => {
  for (const name of [label, standbyLabel(mirrorOn('b'))]) {
    expect(name).toMatch(/^(primary|standby)\.understudy\.dev\/[a-z0-9]{1,63}$/);
  }
  expect(primaryLabel(volumeOn('a', 'x'))).not.toBe(primaryLabel(volumeOn('a', 'y')));
});

test('a volume that has not been placed has no label', () => {
  expect(labelPlaces([volumeOn(undefined)], []).size).toBe(0);
});

describe('planNodeLabels', () => {
  const places = labelPlaces([volumeOn('b')], []);

  test('takes a label off the old node, and lets the new one wait until then', () => {
    const [a, b] = [nodeWith('a', { [label]: 'shop' }), nodeWith('b')];
    expect(planNodeLabels(a, [a, b], places, covers)).toEqual({ remove: [label], add: {}, waitsFor: [] });
    expect(planNodeLabels(b, [a, b], places, covers)).toEqual({ remove: [], add: {}, waitsFor: ['a'] });
    const after = nodeWith('a');
    expect(planNodeLabels(b, [after, b], places, covers)).toEqual({
      remove: [],
      add: { [label]: 'shop' },
      waitsFor: [],
    });
  });

  test('takes off what nothing stands for any more, and nothing that is not ours', () => {
    const stale = primaryLabel(volumeOn('a', 'gone'));
    const a = nodeWith('a', { [stale]: 'shop', zone: 'x', 'understudy.dev/other': 'y' });
    expect(planNodeLabels(a, [a], places, covers).remove).toEqual([stale]);
  });

  test('leaves what is of another namespace alone, for an operator that does not see it', () => {
    const a = nodeWith('a', { [primaryLabel(volumeOn('a', 'theirs'))]: 'bank' });
    expect(planNodeLabels(a, [a], places, (namespace) => namespace === 'shop').remove).toEqual([]);
  });

  test('puts a wrong value right', () => {
    const b = nodeWith('b', { [label]: 'true' });
    expect(planNodeLabels(b, [b], places, covers).add).toEqual({ [label]: 'shop' });
  });

  test('in whatever order nodes are looked at, a label is on one node at most, and in the end on the right one', () => {
    const node = fc.constantFrom('a', 'b', 'c');
    const step = fc.oneof(
      fc.record({ type: fc.constant('look' as const), node }),
      fc.record({ type: fc.constant('move' as const), node }),
      fc.record({ type: fc.constant('recreate' as const), node }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const nodes = new Map(['a', 'b', 'c'].map((name) => [name, nodeWith(name)]));
        let place = 'a';
        const look = (name: string) => {
          const seen = nodes.get(name) ?? nodeWith(name);
          const where = labelPlaces([volumeOn(place)], []);
          const { add, remove } = planNodeLabels(seen, [...nodes.values()], where, covers);
          const kept = Object.entries(seen.metadata.labels ?? {}).filter(([each]) => !remove.includes(each));
          nodes.set(name, nodeWith(name, { ...Object.fromEntries(kept), ...add }));
        };
        const holders = () =>
          [...nodes.values()]
            .filter(({ metadata: { labels } }) => labels?.[label] !== undefined)
            .map((n) => n.metadata.name);
        for (const { type, node: name } of steps) {
          if (type === 'look') look(name);
          if (type === 'move') place = name;
          if (type === 'recreate') nodes.set(name, nodeWith(name));
          expect(holders().length).toBeLessThanOrEqual(1);
        }
        for (const name of ['a', 'b', 'c', 'a', 'b', 'c']) look(name);
        expect(holders()).toEqual([place]);
      }),
    );
  });
});

test('a node is found by the hostname that its kubelet has given it', () => {
  const named = nodeWith('ip-10-0-0-7.internal', { 'kubernetes.io/hostname': 'ip-10-0-0-7' });
  expect(hostnameOf('ip-10-0-0-7.internal', [named])).toBe('ip-10-0-0-7');
  expect(hostnameOf('node-a', [])).toBe('node-a');
});
