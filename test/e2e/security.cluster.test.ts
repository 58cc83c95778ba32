/** Who may do what: agents, tenants, credentials. */

import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SYSTEM_NAMESPACE } from '../demo/install.ts';
import { makeGguf } from '../fixtures/gguf.ts';
import { lab, makeModel, nodes, openHub, type TestHub } from './context.ts';
import { holds, type TestNamespace, until } from './harness.ts';

const agent = `system:serviceaccount:${SYSTEM_NAMESPACE}:slm-operator-agent`;
const content = makeGguf({ tensors: [{ name: 'private', dimensions: [128, 128] }] });
const sha256 = createHash('sha256').update(content).digest('hex');

let hub: TestHub;
let space: TestNamespace;
let stranger: TestNamespace;
beforeAll(async () => {
  hub = await openHub({ token: 'let-me-in' });
  await hub.addFile('private.gguf', content);
  [space, stranger] = await Promise.all([lab.namespace('owner'), lab.namespace('stranger')]);
});
afterAll(async () => {
  await Promise.all([space[Symbol.asyncDispose](), stranger[Symbol.asyncDispose]()]);
  await hub[Symbol.asyncDispose]();
});

describe('the agent', () => {
  it.each(['get', 'list', 'watch', 'create'])('may not %s Secrets anywhere', async (verb) => {
    await expect(lab.kubectl('auth', 'can-i', verb, 'secrets', '-A', '--as', agent)).rejects.toThrow();
  });

  it('may write the status of its own node’s object and of no other', async () => {
    const [own = '', other = ''] = nodes;
    const patch = (node: string) =>
      lab.kubectl(
        'patch',
        'slmnodecache',
        node,
        '--subresource=status',
        '--type=merge',
        '-p',
        '{"status":{"agentVersion":"probe"}}',
        '--dry-run=server',
        '--as',
        agent,
        '--as-user-extra',
        `authentication.kubernetes.io/node-name=${own}`,
      );
    await expect(patch(own)).resolves.toMatch(/patched/);
    await expect(patch(other)).rejects.toThrow(/own node|node/);
  });
});

describe('a model behind a credential', () => {
  it('says that it wants one, and comes when the Secret is there', async () => {
    const object = makeModel(space.name, 'private', hub, 'private.gguf', sha256, { policy: 'Nodes' });
    Object.assign(object.spec.source, { secretRef: { name: 'token' } });
    await lab.apply(object);
    await until(
      'it says which Secret is missing',
      () => lab.model(space.name, 'private'),
      (one) =>
        one?.status?.conditions?.some(
          (it) => it.type === 'Ready' && it.reason === 'SecretNotFound' && it.message.includes('token'),
        ) ?? false,
    );
    await lab.apply({
      apiVersion: 'v1',
      kind: 'Secret',
      metadata: { namespace: space.name, name: 'token' },
      stringData: { bearer: 'let-me-in' },
    });
    await until(
      'it is Ready',
      () => lab.model(space.name, 'private'),
      (one) => holds(one, 'Ready'),
      { timeoutMs: 180_000 },
    );
  });

  it('leaves the credential in the control plane: no object and no log holds it', async () => {
    const [model, caches] = await Promise.all([lab.model(space.name, 'private'), lab.nodeCaches()]);
    expect(JSON.stringify([model, caches])).not.toContain('let-me-in');
    for (const component of ['operator', 'agent']) {
      const logs = await lab.kubectl(
        '-n',
        SYSTEM_NAMESPACE,
        'logs',
        '-l',
        `app.kubernetes.io/component=${component}`,
        '--tail=-1',
      );
      expect(logs).not.toContain('let-me-in');
    }
  });

  it('is not for pods of another namespace, whatever attributes they write', async () => {
    const digest = (await lab.model(space.name, 'private'))?.status?.latestRevision?.digest;
    const image = await lab.serverImage();
    await lab.apply({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { namespace: stranger.name, name: 'thief' },
      spec: {
        securityContext: { runAsNonRoot: true, runAsUser: 65532, seccompProfile: { type: 'RuntimeDefault' } },
        containers: [
          {
            name: 'thief',
            image,
            command: ['node', '-e', 'setInterval(() => {}, 1000)'],
            securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] } },
            volumeMounts: [{ name: 'm', mountPath: '/m', readOnly: true }],
          },
        ],
        volumes: [
          {
            name: 'm',
            csi: {
              driver: 'models.slm.dev',
              readOnly: true,
              volumeAttributes: { digest, model: `${space.name}/private` },
            },
          },
        ],
      },
    });
    const events = await until(
      'the mount is refused with a reason',
      () =>
        lab.list<{ reason: string; message: string }>(
          'events',
          '-n',
          stranger.name,
          '--field-selector',
          'reason=FailedMount',
        ),
      (all) => all.some((event) => event.message.includes(stranger.name)),
    );
    expect(events.map((event) => event.message).join('\n')).toMatch(/may not|not allowed|not for/);
  });
});
