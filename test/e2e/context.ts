/** What every cluster test file starts with: the lab, the cluster for node control, and a file server with faults. */
import { copyFile, link, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { inject } from 'vitest';
import { cacheDir } from '../cache.ts';
import { type Cluster, openCluster } from '../cluster/cluster.ts';
import { makeProgress } from '../cluster/progress.ts';
import { type FileServer, type FileServerOptions, startFileServer } from '../fixtures/file-server.ts';
import { type ModelFixture, smollm2 } from '../fixtures/models.ts';
import { type Lab, openLab } from './harness.ts';

export const lab: Lab = openLab(inject('kubeconfig'), inject('kubectl'));
export const nodes: readonly string[] = inject('nodes');

/** The running cluster, for control over nodes and API server. */
export async function cluster(): Promise<Cluster> {
  const running = await openCluster(makeProgress());
  if (!running) throw new Error('the cluster of the global setup is gone');
  return running;
}

export interface TestHub extends AsyncDisposable {
  readonly server: FileServer;
  /** Folder that it serves. */
  readonly root: string;
  /** Base address that pods reach. */
  readonly url: string;
  /** Puts a file at `files/NAME`. */
  addFile(name: string, content: Uint8Array): Promise<void>;
  /** Links the real model to `files/NAME`. */
  addModel(name: string): Promise<ModelFixture>;
  /** Links the files below a folder to the repository `hf://acme/NAME`, but for those that are left out. */
  addRepository(name: string, folder: string, leftOut?: readonly string[]): Promise<void>;
}

/** Starts a file server of the test's own that pods can reach. */
export async function openHub(options: Omit<FileServerOptions, 'root' | 'host'> = {}): Promise<TestHub> {
  const root = await mkdtemp(path.join(cacheDir, 'hub-'));
  await mkdir(path.join(root, 'files'));
  const host = inject('hostAddress');
  const server = await startFileServer({ ...options, root, host });
  return {
    server,
    root,
    url: `${options.tls ? 'https' : 'http'}://${host}:${server.port}`,
    addFile: (name, content) => writeFile(path.join(root, 'files', name), content),
    async addModel(name) {
      const model = await smollm2();
      const file = path.join(root, 'files', name);
      await link(model.path, file).catch(() => copyFile(model.path, file));
      return model;
    },
    async addRepository(name, folder, leftOut = []) {
      for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
        if (!entry.isFile() || leftOut.includes(entry.name)) continue;
        const source = path.join(entry.parentPath, entry.name);
        const target = path.join(root, 'hf/acme', name, path.relative(folder, source));
        await mkdir(path.dirname(target), { recursive: true });
        await link(source, target).catch(() => copyFile(source, target));
      }
    },
    async [Symbol.asyncDispose]() {
      await server.close();
      await rm(root, { recursive: true, force: true });
    },
  };
}

/** An SLMModel of a file on a test hub. */
export function makeModel(
  namespace: string,
  name: string,
  hub: TestHub,
  file: string,
  sha256: string,
  prePull?: object,
) {
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMModel',
    metadata: { namespace, name },
    spec: {
      source: { uri: `${hub.url}/files/${file}`, ...(hub.url.startsWith('http://') ? { insecure: true } : {}) },
      integrity: { digest: `sha256:${sha256}` },
      ...(prePull ? { prePull } : {}),
    },
  };
}

/** An SLMDeployment that fits small machines. */
export function makeDeployment(namespace: string, name: string, model: string, spec: object = {}) {
  return {
    apiVersion: 'slm.dev/v1alpha1',
    kind: 'SLMDeployment',
    metadata: { namespace, name },
    spec: {
      modelRef: { name: model },
      engine: { contextLength: 512, parallelRequests: 2, threads: 1 },
      resources: { requests: { cpu: '50m', memory: '256Mi' }, limits: { memory: '768Mi' } },
      ...spec,
    },
  };
}
