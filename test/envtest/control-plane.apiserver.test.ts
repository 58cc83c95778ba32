import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { tryCommand } from '../cluster/command.ts';
import { silentProgress } from '../cluster/progress.ts';
import { ensureTools } from '../cluster/tools.ts';
import { startControlPlane, type TestControlPlane } from './control-plane.ts';

let kubectlPath: string;
const kubectl = (kubeconfig: string, ...args: string[]) =>
  tryCommand([kubectlPath, '--kubeconfig', kubeconfig, '--request-timeout=5s', ...args]);

beforeAll(async () => {
  kubectlPath = (await ensureTools(['kubectl'], silentProgress)).kubectl;
});

describe("the run's shared API server", () => {
  it('hands out its kubeconfig both ways', async () => {
    const kubeconfig = inject('kubeconfig');
    expect(process.env['SLM_TEST_KUBECONFIG']).toBe(kubeconfig);
    expect((await kubectl(kubeconfig, 'get', 'namespace', 'default', '-o', 'name')).stdout).toBe('namespace/default\n');
  });

  it('deletes namespaces for good, which takes a controller manager', async () => {
    const kubeconfig = inject('kubeconfig');
    await kubectl(kubeconfig, 'create', 'namespace', 'envtest-gone');
    const deleted = await tryCommand([
      kubectlPath,
      '--kubeconfig',
      kubeconfig,
      'delete',
      'namespace',
      'envtest-gone',
      '--timeout=40s',
    ]);
    expect(deleted).toMatchObject({ code: 0 });
  });

  it('binds service account tokens to a pod', async () => {
    const kubeconfig = inject('kubeconfig');
    await expect.poll(async () => (await kubectl(kubeconfig, 'get', 'serviceaccount', 'default')).code).toBe(0);
    await kubectl(kubeconfig, 'run', 'envtest-bound', '--image=none');
    const bound = ['--bound-object-kind=Pod', '--bound-object-name=envtest-bound'];
    const token = (await kubectl(kubeconfig, 'create', 'token', 'default', ...bound)).stdout;
    const claims = JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString()) as Record<string, object>;
    expect(claims['kubernetes.io']).toMatchObject({ pod: { name: 'envtest-bound' }, namespace: 'default' });
    await kubectl(kubeconfig, 'delete', 'pod', 'envtest-bound', '--force', '--grace-period=0');
  });
});

describe('an API server of its own', () => {
  let own: TestControlPlane;
  const namespaces = () => kubectl(own.kubeconfig, 'get', 'namespace', 'default', '-o', 'name');

  beforeAll(async () => {
    own = await startControlPlane();
  });
  afterAll(() => own.stop());

  it('answers nothing while it is paused, and goes on where it was', async () => {
    own.pause();
    const silent = await kubectl(own.kubeconfig, 'get', '--raw=/version', '--request-timeout=1s');
    own.resume();
    expect(silent.code).not.toBe(0);
    expect((await namespaces()).stdout).toBe('namespace/default\n');
  });

  it('refuses connections while it is killed, and comes back on the same port with the same data', async () => {
    await kubectl(own.kubeconfig, 'create', 'namespace', 'kept');
    await own.kill();
    expect((await namespaces()).stderr).toContain('refused');
    await own.start();
    expect((await kubectl(own.kubeconfig, 'get', 'namespace', 'kept', '-o', 'name')).stdout).toBe('namespace/kept\n');
  });

  it('knows added users by name and group, without rights', async () => {
    const kubeconfig = await own.addUser('mona', ['painters']);
    const who = JSON.parse((await kubectl(kubeconfig, 'auth', 'whoami', '-o', 'json')).stdout) as {
      status: { userInfo: { username: string; groups: string[] } };
    };
    expect(who.status.userInfo).toMatchObject({
      username: 'mona',
      groups: expect.arrayContaining(['painters']) as unknown,
    });
    expect((await kubectl(kubeconfig, 'get', 'secrets', '-A')).stderr).toContain('forbidden');
  });
});
