import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { apiServerArguments, controllerManagerArguments, prepareControlPlane } from './control-plane.ts';
import { makeAuthority } from './pki.ts';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'slm-pki-'));
});
afterEach(() => rm(folder, { recursive: true }));

const settings = () => ({
  folder,
  name: 'test',
  address: '10.197.0.1',
  apiPort: 16443,
  etcdPort: 1,
  etcdPeerPort: 2,
  serviceRange: '10.199.0.0/20',
  serviceAddress: '10.199.0.1',
});

describe('prepareControlPlane', () => {
  it('makes certificates that their authority signed, for every name of the API server', async () => {
    const { pki } = await prepareControlPlane(settings());
    const read = async (name: string) => new X509Certificate(await readFile(path.join(pki, name)));
    const [authority, server] = [await read('ca.crt'), await read('apiserver.crt')];
    expect(server.verify(authority.publicKey)).toBe(true);
    expect(authority.ca).toBe(true);
    for (const host of ['localhost', 'kubernetes.default.svc']) expect(server.checkHost(host)).toBe(host);
    for (const address of ['127.0.0.1', '10.197.0.1', '10.199.0.1']) expect(server.checkIP(address)).toBe(address);
    expect(Date.parse(server.validFrom)).toBeLessThan(Date.now());
    expect((await stat(path.join(pki, 'ca.key'))).mode & 0o077).toBe(0);
  });

  it('continues with the keys of an earlier run', async () => {
    const first = await prepareControlPlane(settings());
    const before = await readFile(first.kubeconfig, 'utf8');
    const second = await prepareControlPlane(settings());
    expect(await readFile(second.kubeconfig, 'utf8')).toBe(before);
    const user = await second.authority.issue({ name: 'later' });
    const authority = new X509Certificate(first.authority.self.certificate);
    expect(new X509Certificate(user.certificate).verify(authority.publicKey)).toBe(true);
  });
});

describe('makeAuthority', () => {
  it('writes user and groups where Kubernetes looks for them', async () => {
    const { certificate } = await (await makeAuthority()).issue({
      name: 'system:node:n1',
      groups: ['system:nodes', 'b'],
    });
    expect(new X509Certificate(certificate).subject).toBe('CN=system:node:n1\nO=system:nodes\nO=b');
  });
});

describe('arguments', () => {
  it('point at files of the folder and nowhere else', () => {
    const files = apiServerArguments(settings()).filter((argument) => argument.includes('=/'));
    expect(files.length).toBeGreaterThan(5);
    for (const argument of files) expect(argument).toContain(`=${folder}/pki/`);
  });

  it('carry the time after which a node is lost', () => {
    expect(controllerManagerArguments(settings())).toContain('--node-monitor-grace-period=8s');
    expect(controllerManagerArguments({ ...settings(), nodeGraceSeconds: 40 })).toContain(
      '--node-monitor-grace-period=40s',
    );
  });
});
