/** Who may ask a model and how: tokens of real pods over HTTPS, and an engine that crashes in its pod. */
import { Agent, request } from 'node:https';
import type { V1Pod } from '@kubernetes/client-node';
import { makeAuthority, makeServingCertificate } from '@slm-operator/operator/broker/certificates';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { lab, makeDeployment, makeModel, openHub, type TestHub } from './context.ts';
import { type Forward, holds, type TestNamespace, until } from './harness.ts';

let hub: TestHub;
let space: TestNamespace;
let other: TestNamespace;
let forward: Forward;
let ca: string;
const host = () => `chat.${space.name}.svc`;

beforeAll(async () => {
  hub = await openHub();
  const model = await hub.addModel('model.gguf');
  [space, other] = await Promise.all([lab.namespace('access'), lab.namespace('outside')]);
  const authority = await makeAuthority(Date.now());
  const pair = await makeServingCertificate(authority, [host()], Date.now());
  ca = authority.cert;
  await lab.apply(
    {
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { namespace: space.name, name: 'certificate' },
      type: 'kubernetes.io/tls',
      stringData: { 'tls.crt': pair.cert, 'tls.key': pair.key },
    },
    makeModel(space.name, 'smollm2', hub, 'model.gguf', model.sha256),
    makeDeployment(space.name, 'chat', 'smollm2', {
      auth: { type: 'ServiceAccount' },
      tls: { secretRef: { name: 'certificate' } },
      audit: { enabled: true },
    }),
  );
  await until(
    'the deployment is Ready',
    () => lab.deployment(space.name, 'chat'),
    (deployment) => holds(deployment, 'Ready'),
    { timeoutMs: 240_000 },
  );
  forward = await lab.forward(space.name, 'chat');
});
afterAll(async () => {
  await forward?.[Symbol.asyncDispose]();
  await Promise.all([space[Symbol.asyncDispose](), other[Symbol.asyncDispose]()]);
  await hub[Symbol.asyncDispose]();
});

/** What the client pod's one file of code prints: the statuses of a request without and with its token. */
const CLIENT = `
const ask = async (headers) => {
  const body = JSON.stringify({ model: 'chat', prompt: 'Hello', stream: false, options: { num_predict: 4 } });
  const answer = await fetch(process.env.URL, { method: 'POST', headers, body });
  const { error } = await answer.json();
  return { status: answer.status, error };
};
const token = require('fs').readFileSync('/token/token', 'utf8');
Promise.all([ask({}), ask({ authorization: 'Bearer ' + token })]).then((all) => console.log(JSON.stringify(all)));
`;

/** Runs a client pod to its end and answers what it printed. */
async function runClient(namespace: string, name: string): Promise<{ status: number; error?: string }[]> {
  await lab.apply({
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { namespace, name },
    spec: {
      restartPolicy: 'Never',
      securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } },
      containers: [
        {
          name: 'client',
          image: await lab.serverImage(),
          command: [
            'node',
            '-e',
            `require('fs').writeFileSync('/tmp/ca.crt', process.env.CA);
             const child = require('child_process').spawnSync(process.execPath, ['-e', process.env.CODE], { stdio: 'inherit', env: { ...process.env, NODE_EXTRA_CA_CERTS: '/tmp/ca.crt' } });
             process.exit(child.status);`,
          ],
          env: [
            { name: 'URL', value: `https://${host()}:11434/api/generate` },
            { name: 'CA', value: ca },
            { name: 'CODE', value: CLIENT },
          ],
          securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
          volumeMounts: [{ name: 'token', mountPath: '/token', readOnly: true }],
        },
      ],
      volumes: [
        {
          name: 'token',
          projected: {
            sources: [{ serviceAccountToken: { audience: host(), path: 'token', expirationSeconds: 600 } }],
          },
        },
      ],
    },
  });
  await until(
    'the client is done',
    () => lab.get<V1Pod>('pod', name, namespace),
    (pod) => pod?.status?.phase === 'Succeeded' || pod?.status?.phase === 'Failed',
  );
  return JSON.parse(await lab.kubectl('-n', namespace, 'logs', name)) as { status: number; error?: string }[];
}

/** The serving pod. */
async function servingPod(): Promise<V1Pod> {
  const [pod] = await lab.list<V1Pod>('pods', '-n', space.name, '-l', 'slm.dev/deployment=chat');
  if (!pod) throw new Error('there is no serving pod');
  return pod;
}

/** Reads a page that needs no token, with the certificate checked. */
function read(path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(forward.url);
    const options = { hostname, port, path, ca, servername: host(), agent: new Agent({ keepAlive: false }) };
    request(options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
      });
      response.once('end', () => resolve(text));
    })
      .once('error', reject)
      .end();
  });
}

describe('a client', () => {
  it('comes in with the token of its pod, over HTTPS, and not without', async () => {
    expect(await runClient(space.name, 'inside')).toEqual([
      { status: 401, error: expect.stringContaining(`audience ${host()}`) as string },
      { status: 200 },
    ]);
  });

  it('of another namespace is told what to change, and comes in when it is', async () => {
    const [, refused] = await runClient(other.name, 'refused');
    expect(refused).toEqual({
      status: 403,
      error: `ServiceAccount ${other.name}/default may not use SLMDeployment ${space.name}/chat: add it to spec.auth.allowedServiceAccounts`,
    });
    const before = (await servingPod()).metadata?.uid;
    const allowed = [{ name: 'default' }, { namespace: other.name }];
    const patch = JSON.stringify({ spec: { auth: { allowedServiceAccounts: allowed } } });
    await lab.kubectl('-n', space.name, 'patch', 'slmdeployment', 'chat', '--type=merge', '-p', patch);
    // A refused token is remembered for ten seconds; this is another pod's.
    expect((await runClient(other.name, 'allowed'))[1]).toEqual({ status: 200 });
    expect((await servingPod()).metadata?.uid).toBe(before);
  });

  it('is in the audit log with its ServiceAccount, and its words are not', async () => {
    const logs = await lab.kubectl('-n', space.name, 'logs', (await servingPod()).metadata?.name ?? '');
    const records = logs
      .split('\n')
      .filter((line) => line.includes('"type":"audit"'))
      .map((line) => JSON.parse(line) as { status: number; caller: { name: string } | null });
    expect(records).toContainEqual(
      expect.objectContaining({ status: 200, caller: { type: 'ServiceAccount', name: `${space.name}/default` } }),
    );
    expect(logs).not.toMatch(/Hello|eyJ/);
  });
});

it('an engine that crashes is restarted in its container: the pod stays ready, and the crash is counted', async () => {
  const before = await servingPod();
  const kill = `
    const fs = require('fs');
    const of = (pid, file) => { try { return fs.readFileSync('/proc/' + pid + '/' + file, 'utf8'); } catch { return ''; } };
    const [worker] = fs.readdirSync('/proc').filter((pid) => of(pid, 'cmdline').includes('--worker='));
    process.kill(Number(worker), 'SIGSEGV');`;
  await lab.kubectl('-n', space.name, 'exec', before.metadata?.name ?? '', '--', 'node', '-e', kill);
  await until(
    'the crash is counted',
    () => read('/metrics'),
    (metrics) => metrics.includes('slm_engine_restarts_total{signal="SIGSEGV"} 1'),
  );
  expect((await runClient(space.name, 'after'))[1]).toEqual({ status: 200 });
  const after = await servingPod();
  expect(after.status?.containerStatuses?.[0]?.restartCount).toBe(0);
  const ready = (pod: V1Pod) => pod.status?.conditions?.find(({ type }) => type === 'Ready');
  expect(ready(after)).toMatchObject({ status: 'True' });
  expect(ready(after)?.lastTransitionTime).toEqual(ready(before)?.lastTransitionTime);
});
