/**
 * Owns a real etcd and kube-apiserver, and a kube-controller-manager, kube-scheduler and kwok when asked, for one test run: free ports on the
 * loopback, a temporary folder, no root. There are no nodes but kwok's, so no pod ever runs here. Ends with the process that started
 * it, whichever way that ends.
 */
import { randomInt } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { makeApiReader } from '../cluster/api-reader.ts';
import { isInstalled } from '../cluster/command.ts';
import {
  apiServerArguments,
  type ControlPlaneSettings,
  controllerManagerArguments,
  etcdArguments,
  flags,
  prepareControlPlane,
  schedulerArguments,
} from '../cluster/control-plane.ts';
import { endAllProcesses, endedReason, signalProcesses, startDaemon, waitUntil } from '../cluster/daemons.ts';
import { kwokCommand } from '../cluster/kwok.ts';
import { makeProgress, type Progress } from '../cluster/progress.ts';
import { ensureTools } from '../cluster/tools.ts';

export interface ControlPlaneOptions {
  /** Also run kube-controller-manager: garbage collection, namespace deletion, ReplicaSets. Default false. */
  readonly controllerManager?: boolean;
  /** Also run kube-scheduler. Default false. */
  readonly scheduler?: boolean;
  /** Also run kwok, which plays the kubelets of nodes that carry {@link KWOK_ANNOTATION}. Default false. */
  readonly kwok?: boolean;
  /** Further flags of kube-apiserver, without the dashes; they win over ours. */
  readonly apiServerFlags?: Readonly<Record<string, string>>;
  /** Where building the programs is shown the first time. Default: standard error. */
  readonly progress?: Progress;
}

/** A running control plane. */
export interface TestControlPlane {
  /** Path of a kubeconfig with all rights. */
  readonly kubeconfig: string;
  /** `https://127.0.0.1:PORT`; stays the same over restarts. */
  readonly url: string;
  /** Folder with the logs: `kube-apiserver.log`, `etcd.log`, `kube-controller-manager.log`. */
  readonly folder: string;
  /** Writes a kubeconfig for a user with client certificate, and returns its path. The user has no rights yet. */
  addUser(name: string, groups?: readonly string[]): Promise<string>;
  /** Freezes the API server: connections stay open and nothing answers. */
  pause(): void;
  /** Ends a pause. */
  resume(): void;
  /** Kills the API server (SIGKILL): connections break, and new ones are refused. */
  kill(): Promise<void>;
  /** Starts the API server after `kill`, on the same port and data. Resolves when it is ready. */
  start(): Promise<void>;
  /** `kill` and `start`. */
  restart(): Promise<void>;
  /** Ends everything and deletes the folder. */
  stop(): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Generous: a busy two-core machine takes 5 s. */
const READY_TIMEOUT_MS = 90_000;

/** Starts a control plane, in about three seconds once its programs are built. Resolves when it is ready. */
export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<TestControlPlane> {
  const progress = options.progress ?? makeProgress();
  const tools = await ensureTools(['etcd', 'kube-apiserver', 'kube-controller-manager', 'kube-scheduler'], progress);
  const folder = await mkdtemp(path.join(tmpdir(), 'slm-envtest-'));
  const [etcdPort, etcdPeerPort, apiPort] = await freePorts(3);
  const settings: ControlPlaneSettings = {
    folder,
    name: 'envtest',
    address: '127.0.0.1',
    apiPort: apiPort ?? 0,
    etcdPort: etcdPort ?? 0,
    etcdPeerPort: etcdPeerPort ?? 0,
    serviceRange: '10.199.240.0/24',
    serviceAddress: '10.199.240.1',
    // Fake nodes renew their leases every 10 s and more.
    ...(options.kwok ? { nodeGraceSeconds: 40 } : {}),
  };
  const files = await prepareControlPlane(settings);
  // The kernel ends the daemons when this process dies, so that even a killed test run leaves none.
  const tether = (await isInstalled('setpriv')) ? ['setpriv', '--pdeathsig', 'SIGKILL'] : [];
  const log = (name: string) => path.join(folder, `${name}.log`);
  const run = (name: string, command: readonly string[]) =>
    startDaemon({ owner: folder, name, command: [...tether, ...command], log: log(name) });
  const api = await makeApiReader(files.kubeconfig);

  const startApiServer = async () => {
    const own = {
      // The loopback is no valid address of an Endpoints object, and nothing here reaches one anyway.
      'endpoint-reconciler-type': 'none',
      // Nobody would make the service accounts that it waits for.
      ...(options.controllerManager ? {} : { 'disable-admission-plugins': 'ServiceAccount' }),
      ...options.apiServerFlags,
    };
    run('kube-apiserver', [tools['kube-apiserver'], ...apiServerArguments(settings), ...flags(own)]);
    await waitUntil(() => api.isReady(), {
      what: 'the API server',
      timeoutMs: READY_TIMEOUT_MS,
      failed: () =>
        endedReason(folder, 'etcd', log('etcd')) ?? endedReason(folder, 'kube-apiserver', log('kube-apiserver')),
    });
  };
  const stop = async () => {
    // SIGKILL for all: an API server that is asked to end waits a minute for its open watches.
    await endAllProcesses(folder);
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  };
  const kill = () => endAllProcesses(folder, 'kube-apiserver');

  try {
    run('etcd', [tools.etcd, ...etcdArguments(settings)]);
    await startApiServer();
    if (options.controllerManager)
      run('kube-controller-manager', [tools['kube-controller-manager'], ...controllerManagerArguments(settings)]);
    if (options.scheduler) run('kube-scheduler', [tools['kube-scheduler'], ...schedulerArguments(settings)]);
    if (options.kwok) run('kwok', await kwokCommand({ folder, kubeconfig: files.kubeconfig, progress }));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    kubeconfig: files.kubeconfig,
    url: files.url,
    folder,
    addUser: (name, groups) =>
      files.writeKubeconfig(path.join(folder, `user-${name.replaceAll(/\W/g, '-')}`), name, groups),
    pause: () => void signalProcesses(folder, 'kube-apiserver', 'SIGSTOP'),
    resume: () => void signalProcesses(folder, 'kube-apiserver', 'SIGCONT'),
    kill,
    start: startApiServer,
    async restart() {
      await kill();
      await startApiServer();
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/**
 * Ports that nothing listens on right now, below the range that the kernel gives to outgoing connections: from there, a client
 * that tries again and again while the API server is down would one day take its port, by connecting to itself.
 */
async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) {
    const port = randomInt(10_000, 32_000);
    if (!ports.includes(port) && (await isFree(port))) ports.push(port);
  }
  return ports;
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
