import { access, mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createMountPoint, removeMountPoint, resolveMountPoint } from '../../../agent/attach/mount-point.ts';

let root: string;

beforeEach(async () => {
  root = await realpath(await mkdtemp(join(tmpdir(), 'understudy-point-')));
});

afterEach(() => rm(root, { recursive: true, force: true }));

describe('mount points', () => {
  test('what exists is used and never removed', async () => {
    await mkdir(join(root, 'a'));
    const point = await resolveMountPoint(`${root}/a/`, 'directory');
    expect(point).toEqual({ path: join(root, 'a'), missing: [] });
    await createMountPoint(point, 'directory');
    await removeMountPoint(point.missing);
    await access(join(root, 'a'));
  });

  test('what is missing is made and removed again, as far as it is empty', async () => {
    const point = await resolveMountPoint(join(root, 'a/b/c'), 'directory');
    expect(point.missing).toEqual([join(root, 'a'), join(root, 'a/b'), join(root, 'a/b/c')]);
    await expect(access(join(root, 'a'))).rejects.toThrow('ENOENT');
    await createMountPoint(point, 'directory');
    await writeFile(join(root, 'a', 'mine'), '');
    await removeMountPoint(point.missing);
    await access(join(root, 'a', 'mine'));
    await expect(access(join(root, 'a/b'))).rejects.toThrow('ENOENT');
    await removeMountPoint(point.missing);
  });

  test('symbolic links are resolved, also above what is missing', async () => {
    await mkdir(join(root, 'real'));
    await symlink(join(root, 'real'), join(root, 'link'));
    expect((await resolveMountPoint(join(root, 'link/new'), 'directory')).path).toBe(join(root, 'real/new'));
  });

  test('for a device, a file is made and removed while it is empty', async () => {
    const point = await resolveMountPoint(join(root, 'pod/device'), 'file');
    await createMountPoint(point, 'file');
    await createMountPoint(point, 'file');
    await removeMountPoint(point.missing);
    await expect(access(join(root, 'pod'))).rejects.toThrow('ENOENT');
    await createMountPoint(point, 'file');
    await writeFile(join(root, 'pod/device'), 'data');
    await removeMountPoint(point.missing);
    await access(join(root, 'pod/device'));
  });

  test('a target of the wrong kind is invalid', async () => {
    await writeFile(join(root, 'file'), '');
    const invalid = { code: 'Invalid' };
    await expect(resolveMountPoint(join(root, 'file'), 'directory')).rejects.toMatchObject(invalid);
    await expect(resolveMountPoint(join(root, 'file/below'), 'directory')).rejects.toMatchObject(invalid);
    await expect(resolveMountPoint(root, 'file')).rejects.toMatchObject(invalid);
  });
});
