/**
 * What the cluster tests are written with: apply, read, wait for what a user would see, ask a model. Owns no cluster: the
 * global setup brings one up with the chart installed and hands over its kubeconfig.
 */
import { execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { SLMDeployment, SLMModel, SLMNodeCache } from '@slm-operator/crds';
import { stringify } from 'yaml';
import { type Forward, forwardPort } from '../demo/chat.ts';

const run = promisify(execFile);

export type { Forward };

export interface Condition {
  readonly type: string;
  readonly status: string;
  readonly reason: string;
  readonly message: string;
}

export interface Lab {
  /** Runs kubectl; resolves to what it printed, rejects with what it complained of. */
  kubectl(...args: string[]): Promise<string>;
  /** Applies objects as a user does. */
  apply(...objects: object[]): Promise<void>;
  /** Applies YAML text with replacements. */
  applyYaml(text: string): Promise<void>;
  /** Reads one object; undefined when it is not there. */
  get<T>(resource: string, name: string, namespace?: string): Promise<T | undefined>;
  list<T>(resource: string, ...args: string[]): Promise<T[]>;
  remove(resource: string, name: string, namespace?: string): Promise<void>;
  model(namespace: string, name: string): Promise<SLMModel | undefined>;
  deployment(namespace: string, name: string): Promise<SLMDeployment | undefined>;
  nodeCaches(): Promise<SLMNodeCache[]>;
  /** Makes a namespace with Pod Security restricted and a name of its own; ends with the test. */
  namespace(prefix: string): Promise<TestNamespace>;
  /** Opens a port-forward to a Service. */
  forward(namespace: string, service: string, port?: number): Promise<Forward>;
  /** The server image that the operator gives new revisions. */
  serverImage(): Promise<string>;
  /** First API key of a deployment. */
  apiKey(namespace: string, deployment: string): Promise<string>;
}

export interface TestNamespace extends AsyncDisposable {
  readonly name: string;
}

/** Opens the lab of a kubeconfig; `kubectl` is the path of the program. */
export function openLab(kubeconfig: string, kubectlPath: string): Lab {
  const env = { ...process.env, KUBECONFIG: kubeconfig };
  const kubectl = async (...args: string[]): Promise<string> => {
    const { stdout } = await run(kubectlPath, args, { env, maxBuffer: 64 * 2 ** 20 });
    return stdout;
  };
  const applyYaml = (text: string) =>
    new Promise<void>((resolve, reject) => {
      const child = spawn(kubectlPath, ['apply', '-f', '-'], { env, stdio: ['pipe', 'ignore', 'pipe'] });
      let complaint = '';
      child.stderr.on('data', (chunk: Buffer) => {
        complaint += chunk.toString();
      });
      child.once('error', reject);
      child.once('exit', (code) => (code === 0 ? resolve() : reject(new Error(complaint.trim()))));
      child.stdin.end(text);
    });
  const scope = (namespace?: string) => (namespace ? ['-n', namespace] : []);

  const lab: Lab = {
    kubectl,
    applyYaml,
    apply: (...objects) => applyYaml(objects.map((object) => stringify(object)).join('---\n')),
    async get<T>(resource: string, name: string, namespace?: string) {
      const text = await kubectl('get', resource, name, ...scope(namespace), '-o', 'json', '--ignore-not-found');
      return text.trim() === '' ? undefined : (JSON.parse(text) as T);
    },
    async list<T>(resource: string, ...args: string[]) {
      return (JSON.parse(await kubectl('get', resource, ...args, '-o', 'json')) as { items: T[] }).items;
    },
    async remove(resource, name, namespace) {
      await kubectl('delete', resource, name, ...scope(namespace), '--ignore-not-found');
    },
    model: (namespace, name) => lab.get<SLMModel>('slmmodels', name, namespace),
    deployment: (namespace, name) => lab.get<SLMDeployment>('slmdeployments', name, namespace),
    nodeCaches: () => lab.list<SLMNodeCache>('slmnodecaches'),
    async namespace(prefix) {
      const name = `${prefix}-${randomBytes(3).toString('hex')}`;
      await lab.apply({
        apiVersion: 'v1',
        kind: 'Namespace',
        metadata: { name, labels: { 'pod-security.kubernetes.io/enforce': 'restricted' } },
      });
      return {
        name,
        // Not waited for: a namespace of finished pods goes on its own, and its deletion is not what a test is about.
        [Symbol.asyncDispose]: async () => void (await kubectl('delete', 'namespace', name, '--wait=false')),
      };
    },
    forward: (namespace, service, port = 11434) =>
      forwardPort({ kubeconfig, binFolder: path.dirname(kubectlPath) }, namespace, service, port),
    async serverImage() {
      const [operator] = await lab.list<{
        spec: { template: { spec: { containers: { env: { name: string; value?: string }[] }[] } } };
      }>('deployments', '-A', '-l', 'app.kubernetes.io/name=slm-operator');
      const env = operator?.spec.template.spec.containers[0]?.env;
      const image = env?.find((variable) => variable.name === 'SLM_SERVER_IMAGE')?.value;
      if (!image) throw new Error('the operator’s Deployment names no server image');
      return image;
    },
    async apiKey(namespace, deployment) {
      const secret = await lab.get<{ data: { 'key-1'?: string } }>('secret', `${deployment}-api-keys`, namespace);
      const first = secret?.data['key-1'];
      if (!first) throw new Error(`secret ${deployment}-api-keys in ${namespace} has no key-1`);
      return Buffer.from(first, 'base64').toString();
    },
  };
  return lab;
}

/**
 * Reads until what was read satisfies the test, and answers it. Fails with the last thing read, so that the report says what a
 * user would have seen.
 */
export async function until<T>(
  what: string,
  read: () => Promise<T>,
  isDone: (value: T) => boolean,
  options: { timeoutMs?: number; everyMs?: number } = {},
): Promise<T> {
  const deadline = Date.now() + (options.timeoutMs ?? 120_000);
  let last: T | undefined;
  let failure: unknown;
  for (;;) {
    try {
      last = await read();
      failure = undefined;
      if (isDone(last)) return last;
    } catch (error) {
      // The API server may be away on purpose; the deadline decides.
      failure = error;
    }
    if (Date.now() > deadline) {
      const seen = failure instanceof Error ? failure.message : JSON.stringify(last, null, 1);
      throw new Error(`${what}: not within ${(options.timeoutMs ?? 120_000) / 1000} s; last seen: ${seen}`);
    }
    await sleep(options.everyMs ?? 200);
  }
}

/** The condition of a type, or undefined. */
export function condition(
  object: { readonly status?: { readonly conditions?: readonly Condition[] } } | undefined,
  type: string,
): Condition | undefined {
  return object?.status?.conditions?.find((one) => one.type === type);
}

/** Whether a condition holds, for the spec as it is now. */
export function holds(
  object:
    | {
        readonly metadata: { readonly generation?: number };
        readonly status?: { readonly observedGeneration?: number; readonly conditions?: readonly Condition[] };
      }
    | undefined,
  type: string,
  reason?: string,
): boolean {
  const found = condition(object, type);
  return (
    found?.status === 'True' &&
    (reason === undefined || found.reason === reason) &&
    object?.status?.observedGeneration === object?.metadata.generation
  );
}
