/**
 * Owns the command lines of etcd, kube-apiserver, kube-controller-manager and kube-scheduler, and the files they read.
 * Used by the API server tests and by the bare cluster alike. Starts nothing.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { makeKubeconfig } from './kubeconfig.ts';
import { type Authority, type KeyPair, makeAuthority, makeTokenKeys } from './pki.ts';

/** Where the control plane listens and what it gives out. */
export interface ControlPlaneSettings {
  /** Folder with everything that is written here. */
  readonly folder: string;
  /** Name in kubeconfigs. */
  readonly name: string;
  /** Address that the API server binds and advertises. */
  readonly address: string;
  readonly apiPort: number;
  /** On 127.0.0.1. */
  readonly etcdPort: number;
  readonly etcdPeerPort: number;
  /** CIDR of ClusterIPs. */
  readonly serviceRange: string;
  /** The ClusterIP of the API server: the first of the range. */
  readonly serviceAddress: string;
  /** Seconds without news after which a node counts as NotReady. Default 8: tests wait for it. */
  readonly nodeGraceSeconds?: number;
}

/** Files of a control plane; absolute paths. */
export interface ControlPlaneFiles {
  readonly authority: Authority;
  readonly pki: string;
  /** For administrators: the group system:masters. */
  readonly kubeconfig: string;
  readonly url: string;
  /** Writes a kubeconfig for a user, and returns its path. */
  writeKubeconfig(file: string, user: string, groups?: readonly string[]): Promise<string>;
}

/** Makes keys, certificates and kubeconfigs, or reads those that an earlier run left in the folder. */
export async function prepareControlPlane(settings: ControlPlaneSettings): Promise<ControlPlaneFiles> {
  const pki = path.join(settings.folder, 'pki');
  const url = `https://${settings.address}:${settings.apiPort}`;
  await mkdir(pki, { recursive: true, mode: 0o700 });
  const known = await readPair(pki, 'ca');
  const authority = await makeAuthority(known);
  const writeKubeconfig = async (file: string, user: string, groups: readonly string[] = []) => {
    const credentials = await authority.issue({ name: user, groups });
    const text = makeKubeconfig({
      name: settings.name,
      server: url,
      authority: authority.self.certificate,
      user,
      credentials,
    });
    await writeFile(file, text, { mode: 0o600 });
    return file;
  };
  const kubeconfig = path.join(settings.folder, 'kubeconfig');
  if (!known) {
    const names = [
      'kubernetes',
      'kubernetes.default',
      'kubernetes.default.svc',
      'kubernetes.default.svc.cluster.local',
    ];
    const hosts = ['localhost', '127.0.0.1', settings.address, settings.serviceAddress, ...names];
    await writePair(pki, 'apiserver', await authority.issue({ name: 'kube-apiserver', hosts }));
    const kubeletClient = { name: 'kube-apiserver-kubelet-client', groups: ['system:masters'] };
    await writePair(pki, 'kubelet-client', await authority.issue(kubeletClient));
    await writePair(pki, 'front-proxy', await authority.issue({ name: 'front-proxy-client' }));
    const tokenKeys = makeTokenKeys();
    await writeFile(path.join(pki, 'tokens.key'), tokenKeys.privateKey, { mode: 0o600 });
    await writeFile(path.join(pki, 'tokens.pub'), tokenKeys.publicKey);
    await writeKubeconfig(kubeconfig, 'admin', ['system:masters']);
    for (const component of ['kube-controller-manager', 'kube-scheduler'])
      await writeKubeconfig(path.join(settings.folder, `${component}.kubeconfig`), `system:${component}`);
    // Last: its presence says that the set is whole.
    await writePair(pki, 'ca', authority.self);
  }
  return { authority, pki, kubeconfig, url, writeKubeconfig };
}

/** The arguments of etcd. It does not sync to disk: a test cluster may lose the last second when the machine dies. */
export function etcdArguments({ folder, etcdPort, etcdPeerPort }: ControlPlaneSettings): string[] {
  const client = `http://127.0.0.1:${etcdPort}`;
  const peer = `http://127.0.0.1:${etcdPeerPort}`;
  return flags({
    name: 'slm',
    'data-dir': path.join(folder, 'etcd'),
    'listen-client-urls': client,
    'advertise-client-urls': client,
    'listen-peer-urls': peer,
    'initial-advertise-peer-urls': peer,
    'initial-cluster': `slm=${peer}`,
    'unsafe-no-fsync': 'true',
    'log-level': 'warn',
    'quota-backend-bytes': 4 * 1024 ** 3,
  });
}

/** The arguments of kube-apiserver. */
export function apiServerArguments(settings: ControlPlaneSettings): string[] {
  const pki = path.join(settings.folder, 'pki');
  return flags({
    'etcd-servers': `http://127.0.0.1:${settings.etcdPort}`,
    'bind-address': settings.address,
    'advertise-address': settings.address,
    'secure-port': settings.apiPort,
    'service-cluster-ip-range': settings.serviceRange,
    'allow-privileged': 'true',
    'authorization-mode': 'Node,RBAC',
    'enable-admission-plugins': 'NodeRestriction',
    'client-ca-file': path.join(pki, 'ca.crt'),
    'tls-cert-file': path.join(pki, 'apiserver.crt'),
    'tls-private-key-file': path.join(pki, 'apiserver.key'),
    'service-account-issuer': 'https://kubernetes.default.svc.cluster.local',
    'service-account-key-file': path.join(pki, 'tokens.pub'),
    'service-account-signing-key-file': path.join(pki, 'tokens.key'),
    'kubelet-client-certificate': path.join(pki, 'kubelet-client.crt'),
    'kubelet-client-key': path.join(pki, 'kubelet-client.key'),
    'kubelet-preferred-address-types': 'InternalIP',
    // The API server is outside of the pod network's service routing: it calls webhooks by pod address.
    'enable-aggregator-routing': 'true',
    'requestheader-client-ca-file': path.join(pki, 'ca.crt'),
    'requestheader-allowed-names': 'front-proxy-client',
    'requestheader-username-headers': 'X-Remote-User',
    'requestheader-group-headers': 'X-Remote-Group',
    'requestheader-extra-headers-prefix': 'X-Remote-Extra-',
    'proxy-client-cert-file': path.join(pki, 'front-proxy.crt'),
    'proxy-client-key-file': path.join(pki, 'front-proxy.key'),
    // Pods leave a lost node after 5 s instead of 300: tests wait for it.
    'default-not-ready-toleration-seconds': 5,
    'default-unreachable-toleration-seconds': 5,
    profiling: 'false',
  });
}

/** The arguments of kube-controller-manager. Start it only when the API server is ready: without RBAC it gives up for good. */
export function controllerManagerArguments(settings: ControlPlaneSettings): string[] {
  const pki = path.join(settings.folder, 'pki');
  const kubeconfig = path.join(settings.folder, 'kube-controller-manager.kubeconfig');
  return flags({
    ...componentFlags(kubeconfig),
    'root-ca-file': path.join(pki, 'ca.crt'),
    'service-account-private-key-file': path.join(pki, 'tokens.key'),
    'cluster-signing-cert-file': path.join(pki, 'ca.crt'),
    'cluster-signing-key-file': path.join(pki, 'ca.key'),
    'use-service-account-credentials': 'true',
    'allocate-node-cidrs': 'false',
    'node-monitor-period': '1s',
    'node-monitor-grace-period': `${settings.nodeGraceSeconds ?? 8}s`,
  });
}

/** The arguments of kube-scheduler. */
export function schedulerArguments({ folder }: ControlPlaneSettings): string[] {
  return flags(componentFlags(path.join(folder, 'kube-scheduler.kubeconfig')));
}

function componentFlags(kubeconfig: string): Record<string, string | number> {
  return {
    kubeconfig,
    'authentication-kubeconfig': kubeconfig,
    'authorization-kubeconfig': kubeconfig,
    'leader-elect': 'false',
    // Nobody scrapes them, and a second cluster on the machine would collide on the default ports.
    'secure-port': 0,
    'kube-api-qps': 200,
    'kube-api-burst': 400,
  };
}

/** `--name=value` for each entry. */
export function flags(values: Readonly<Record<string, string | number>>): string[] {
  return Object.entries(values).map(([name, value]) => `--${name}=${value}`);
}

async function readPair(folder: string, name: string): Promise<KeyPair | undefined> {
  try {
    const [certificate, key] = await Promise.all(
      ['crt', 'key'].map((suffix) => readFile(path.join(folder, `${name}.${suffix}`), 'utf8')),
    );
    return certificate && key ? { certificate, key } : undefined;
  } catch {
    return undefined;
  }
}

async function writePair(folder: string, name: string, { certificate, key }: KeyPair): Promise<void> {
  await writeFile(path.join(folder, `${name}.key`), key, { mode: 0o600 });
  await writeFile(path.join(folder, `${name}.crt`), certificate);
}
