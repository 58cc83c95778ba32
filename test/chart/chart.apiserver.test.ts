import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';
import { repoRoot } from '../cache.ts';
import { makeClients } from '../cluster/clients.ts';
import { tryCommand } from '../cluster/command.ts';
import { waitUntil } from '../cluster/daemons.ts';
import { silentProgress } from '../cluster/progress.ts';
import { ensureTools } from '../cluster/tools.ts';
import { startControlPlane, type TestControlPlane } from '../envtest/control-plane.ts';

const chart = path.join(repoRoot, 'charts/slm-operator');
const NAMESPACE = 'slm-system';
const AGENT = `system:serviceaccount:${NAMESPACE}:slm-operator-agent`;
const OPERATOR = `system:serviceaccount:${NAMESPACE}:slm-operator`;

interface Template {
  kind: string;
  spec: { template: { spec: { containers: { env: { name: string; value?: string }[] }[] } } };
}

let server: TestControlPlane;
let tools: { kubectl: string; helm: string };
let clients: ReturnType<typeof makeClients>;
/** Runs a client and returns all that it said, whatever came of it. */
const say = async (program: 'kubectl' | 'helm', args: readonly string[], input?: string) => {
  const result = await tryCommand([tools[program], ...args], {
    env: { ...process.env, KUBECONFIG: server.kubeconfig },
    ...(input === undefined ? {} : { input }),
  });
  return { code: result.code, text: result.stdout + result.stderr };
};
const install = ['install', 'slm-operator', chart, '--namespace', NAMESPACE, '--create-namespace'];
const nodeCache = (name: string) =>
  JSON.stringify({ apiVersion: 'slm.dev/v1alpha1', kind: 'SLMNodeCache', metadata: { name }, spec: {} });

beforeAll(async () => {
  [server, tools] = await Promise.all([
    startControlPlane({ controllerManager: true }),
    ensureTools(['kubectl', 'helm'], silentProgress),
  ]);
  clients = makeClients({ kubeconfig: server.kubeconfig, tools });
});
afterAll(() => server?.stop());

describe('before an install', () => {
  it('lints', async () => {
    expect(await say('helm', ['lint', '--strict', chart])).toMatchObject({ code: 0 });
  });

  it.each([
    ['a value that does not exist', ['--set', 'operator.replica=3'], 'replica'],
    ['a value of the wrong kind', ['--set', 'agent.minFreePercent=lots'], 'minFreePercent'],
    ['a kind of hardware that could not be', ['--set', 'hardware.order={GPU}'], 'order'],
    ['an unknown field of a profile', ['--set', 'hardware.profiles.nvidia.resource=nvidia.com/gpu'], 'nvidia'],
    ['an http hub without saying so', ['--set', 'huggingFace.endpoint=http://hub'], 'huggingFace.insecure=true'],
  ])('refuses %s, with its name', async (_, flags, named) => {
    const { code, text } = await say('helm', ['template', 'x', chart, ...flags]);
    expect(code).not.toBe(0);
    expect(text).toContain(named);
  });

  it('tells the operator of other server images and hardware, and that there is none of what is null', async () => {
    const values = {
      serverImage: { repository: 'registry.local/server', variants: { cuda: null, npu: 'registry.local/npu:1' } },
      hardware: { order: ['gpu', 'cpu'], profiles: { nvidia: false, 'my-npu': { class: 'npu', image: 'npu' } } },
    };
    const flags = ['--values', '-', '--show-only', 'templates/operator-deployment.yaml'];
    const { text } = await say('helm', ['template', 'x', chart, ...flags], JSON.stringify(values));
    const objects = parseAllDocuments(text).map((document) => document.toJS() as Template | null);
    const deployment = objects.find((object) => object?.kind === 'Deployment');
    const { env } = deployment?.spec.template.spec.containers[0] ?? {};
    const valueOf = (name: string) => env?.find((variable) => variable.name === name)?.value ?? '';
    expect(JSON.parse(valueOf('SLM_SERVER_IMAGES'))).toEqual({
      npu: 'registry.local/npu:1',
      cuda12: expect.stringMatching(/^registry\.local\/server:.+-cuda12$/) as string,
      vulkan: expect.stringMatching(/^registry\.local\/server:.+-vulkan$/) as string,
    });
    expect(JSON.parse(valueOf('SLM_HARDWARE_PROFILES'))).toEqual(values.hardware.profiles);
    expect(valueOf('SLM_HARDWARE_ORDER')).toBe('gpu,cpu');
    expect(valueOf('SLM_WAIT_FOR_FIT')).toBe('true');
  });

  it('refuses a namespace whose Pod Security would leave the agents without pods, and says the command', async () => {
    await clients.kubectl(['create', 'namespace', 'strict']);
    await clients.kubectl(['label', 'namespace', 'strict', 'pod-security.kubernetes.io/enforce=baseline']);
    const { code, text } = await say('helm', ['install', 'slm-operator', chart, '--namespace', 'strict']);
    expect(code).not.toBe(0);
    expect(text).toContain('kubectl label --overwrite namespace strict pod-security.kubernetes.io/enforce=privileged');
  });

  it('has every value documented in its README', async () => {
    const readme = await readFile(path.join(chart, 'README.md'), 'utf8');
    const leaves = (value: unknown, at: string): string[] =>
      value !== null && typeof value === 'object' && !Array.isArray(value) && Object.keys(value).length > 0
        ? Object.entries(value).flatMap(([key, inner]) => leaves(inner, at === '' ? key : `${at}.${key}`))
        : [at];
    const documented = (name: string) =>
      readme.includes(`\`${name}\``) || readme.includes(`\`${path.parse(name).name}\``);
    const values = leaves(parse(await readFile(path.join(chart, 'values.yaml'), 'utf8')), '');
    expect(values.filter((name) => !documented(name))).toEqual([]);
  });
});

describe('installed', () => {
  beforeAll(async () => {
    await clients.helm(install);
    for (const crd of ['slmmodels', 'slmdeployments', 'slmrollouts', 'slmnodecaches'])
      await clients.kubectl(['wait', '--for=condition=Established', `crd/${crd}.slm.dev`, '--timeout=30s']);
    await clients.kubectl(['create', 'namespace', 'team']);
  });

  it('is accepted whole, and again by an upgrade that changes nothing', async () => {
    const before = await clients.kubectl(['-n', NAMESPACE, 'get', 'deploy,ds,pdb,svc', '-o', 'name']);
    await clients.helm(['upgrade', 'slm-operator', chart, '--namespace', NAMESPACE]);
    expect(await clients.kubectl(['-n', NAMESPACE, 'get', 'deploy,ds,pdb,svc', '-o', 'name'])).toBe(before);
    const generation = ['-n', NAMESPACE, 'get', 'deploy/slm-operator', '-o', 'jsonpath={.metadata.generation}'];
    expect(await clients.kubectl(generation)).toBe('1');
  });

  it('lets the operator run in a restricted namespace, the agents apart', async () => {
    const { text } = await say('kubectl', [
      'label',
      '--dry-run=server',
      '--overwrite',
      'namespace',
      NAMESPACE,
      'pod-security.kubernetes.io/enforce=restricted',
    ]);
    expect(text).not.toContain('"operator"');
    const template = JSON.parse(
      await clients.kubectl(['-n', NAMESPACE, 'get', 'deploy/slm-operator', '-o', 'json']),
    ) as { spec: { template: { spec: object; metadata: { labels: object } } } };
    await clients.kubectl(['create', 'namespace', 'restricted']);
    await clients.kubectl(['label', 'namespace', 'restricted', 'pod-security.kubernetes.io/enforce=restricted']);
    await clients.kubectl(['-n', 'restricted', 'create', 'serviceaccount', 'slm-operator']);
    const pod = {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: 'operator', namespace: 'restricted' },
      spec: template.spec.template.spec,
    };
    const made = await say('kubectl', ['create', '--dry-run=server', '-f', '-'], JSON.stringify(pod));
    expect(made).toMatchObject({ code: 0 });
  });

  it.each<[who: string, may: boolean, what: string[]]>([
    [OPERATOR, true, ['get', 'secrets', '-n', 'team']],
    [OPERATOR, false, ['list', 'secrets', '-n', 'team']],
    [OPERATOR, false, ['update', 'secrets', '-n', 'team']],
    [OPERATOR, false, ['delete', 'secrets', '-n', 'team']],
    [OPERATOR, false, ['create', 'pods', '-n', 'team']],
    [OPERATOR, false, ['update', 'slmdeployments', '-n', 'team']],
    [OPERATOR, true, ['patch', 'slmdeployments/status', '-n', 'team']],
    [OPERATOR, false, ['patch', 'slmrollouts']],
    [OPERATOR, true, ['patch', 'slmrollouts/status']],
    [OPERATOR, true, ['update', 'leases/slm-operator', '-n', NAMESPACE]],
    [OPERATOR, false, ['update', 'leases/other', '-n', NAMESPACE]],
    [OPERATOR, false, ['update', 'leases/slm-operator', '-n', 'kube-system']],
    [OPERATOR, true, ['create', 'serviceaccounts/slm-operator', '--subresource=token', '-n', NAMESPACE]],
    [OPERATOR, false, ['create', 'serviceaccounts/slm-operator-agent', '--subresource=token', '-n', NAMESPACE]],
    [OPERATOR, false, ['create', 'serviceaccounts/default', '--subresource=token', '-n', 'team']],
    [AGENT, true, ['patch', 'slmnodecaches/status']],
    [AGENT, false, ['patch', 'slmnodecaches']],
    [AGENT, false, ['get', 'secrets', '-n', NAMESPACE]],
    [AGENT, false, ['get', 'secrets', '-n', 'team']],
    [AGENT, false, ['get', 'pods', '-n', 'team']],
  ])('%s: %s for %j', async (who, may, what) => {
    const [verb = '', resource = '', ...rest] = what;
    const [plural = '', subresource] = resource.split('/');
    // What follows a slash is a subresource, but the name of an object for leases.
    const named = subresource === 'status' ? [plural, `--subresource=${subresource}`] : [resource];
    const { text } = await say('kubectl', ['auth', 'can-i', `--as=${who}`, verb, ...named, ...rest]);
    expect(text.split('\n')).toContain(may ? 'yes' : 'no');
  });

  it('gives people with the role edit the two kinds, and with view a look', async () => {
    for (const role of ['edit', 'view'])
      await clients.kubectl(['-n', 'team', 'create', 'rolebinding', role, `--clusterrole=${role}`, `--user=${role}or`]);
    const can = async (user: string, verb: string) =>
      (
        await say('kubectl', ['auth', 'can-i', `--as=${user}`, '-n', 'team', verb, 'slmdeployments.slm.dev'])
      ).text.trim();
    await expect.poll(() => can('editor', 'create'), { timeout: 20_000 }).toBe('yes');
    await expect.poll(() => can('viewor', 'list'), { timeout: 20_000 }).toBe('yes');
    expect(await can('viewor', 'create')).toBe('no');
  });

  it('takes every sample', async () => {
    const folder = path.join(repoRoot, 'samples');
    for (const name of await readdir(folder)) {
      const documents = parseAllDocuments(await readFile(path.join(folder, name), 'utf8')).map(
        (document) => document.toJS() as { kind: string; metadata: { namespace?: string } },
      );
      // The namespace of a dry run does not come to be, so what lies in it is tried in another.
      for (const document of documents) {
        if (document.metadata.namespace) document.metadata.namespace = 'team';
        const { code, text } = await say(
          'kubectl',
          [
            'apply',
            '--dry-run=server',
            '--validate=strict',
            '-f',
            '-',
            ...(document.kind === 'Namespace' ? [] : ['-n', 'team']),
          ],
          JSON.stringify(document),
        );
        expect({ name, code, text }).toMatchObject({ code: 0 });
      }
    }
  });

  describe('the policy for the operator and pods', () => {
    const pod = (name: string, labels: object) =>
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace: 'team', labels },
        spec: { containers: [{ name: 'server', image: 'server:1' }] },
      });
    const patch = (name: string, change: object) =>
      say('kubectl', [
        '-n',
        'team',
        'patch',
        'pod',
        name,
        '--type=strategic',
        `--as=${OPERATOR}`,
        '-p',
        JSON.stringify(change),
      ]);
    const mark = { metadata: { annotations: { 'controller.kubernetes.io/pod-deletion-cost': '-1000' } } };
    beforeAll(async () => {
      await clients.kubectl(['-n', 'team', 'create', 'serviceaccount', 'default']).catch(() => undefined);
      const managed = { 'app.kubernetes.io/managed-by': 'slm-operator' };
      for (const made of [pod('own', managed), pod('foreign', {})]) {
        const { code, text } = await say('kubectl', ['create', '-f', '-'], made);
        expect({ code, text }).toMatchObject({ code: 0 });
      }
      // A policy takes a moment to be in force.
      const refused = async () => (await patch('foreign', mark)).text;
      await waitUntil(async () => (await refused()).includes('its own deployments'), {
        what: 'the policy',
        timeoutMs: 30_000,
      });
    });
    it('lets it mark a pod of its own', async () => {
      expect(await patch('own', mark)).toMatchObject({ code: 0 });
    });
    it.each(['closed', 'open'])(
      'lets it take requests from a pod of its own and give them back: %s',
      async (traffic) => {
        expect(await patch('own', { metadata: { labels: { 'slm.dev/traffic': traffic } } })).toMatchObject({ code: 0 });
      },
    );
    it.each([
      ['neither open nor closed', { metadata: { labels: { 'slm.dev/traffic': 'half' } } }],
      ['without the mark', { metadata: { labels: { 'slm.dev/traffic': null } } }],
      ['without a label', { metadata: { labels: { 'app.kubernetes.io/managed-by': null } } }],
      ['another image', { spec: { containers: [{ name: 'server', image: 'other:1' }] } }],
      ['another label', { metadata: { labels: { app: 'x' } } }],
      ['another owner', { metadata: { ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'x', uid: 'x' }] } }],
    ])('lets it give no pod %s', async (_, change) => {
      const { code, text } = await patch('own', change);
      expect(code).not.toBe(0);
      expect(text).toContain(
        'the operator may change nothing of a pod but its annotations and whether it gets requests',
      );
    });
  });

  describe('the policy for node agents', () => {
    const patch = (extra: readonly string[], node: string, ...more: string[]) =>
      say('kubectl', [
        'patch',
        'slmnodecache',
        node,
        '--type=merge',
        ...extra,
        ...more,
        '-p',
        '{"status":{"summary":"1/1"},"metadata":{"labels":{"stolen":"yes"}}}',
      ]);
    /** A token such as the kubelet gives to the agent's pod on that node. */
    const tokenOf = async (node: string) => {
      const pod = {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name: `agent-${node}`, namespace: NAMESPACE },
        spec: {
          nodeName: node,
          serviceAccountName: 'slm-operator-agent',
          containers: [{ name: 'agent', image: 'none' }],
        },
      };
      await say(
        'kubectl',
        ['create', '-f', '-'],
        JSON.stringify({ apiVersion: 'v1', kind: 'Node', metadata: { name: node } }),
      );
      await clients.kubectl(['create', '-f', '-'], { input: JSON.stringify(pod) });
      const bound = ['--bound-object-kind=Pod', `--bound-object-name=agent-${node}`];
      return (await clients.kubectl(['-n', NAMESPACE, 'create', 'token', 'slm-operator-agent', ...bound])).trim();
    };
    let token: string;
    /** kubectl with that token alone: the kubeconfig's certificate would win over --token. */
    const asAgent = async (args: readonly string[]) => {
      const result = await tryCommand([
        tools.kubectl,
        '--kubeconfig=/dev/null',
        `--server=${server.url}`,
        '--insecure-skip-tls-verify',
        `--token=${token}`,
        ...args,
      ]);
      return { code: result.code, text: result.stdout + result.stderr };
    };

    beforeAll(async () => {
      for (const node of ['n1', 'n2']) await clients.kubectl(['create', '-f', '-'], { input: nodeCache(node) });
      token = await tokenOf('n1');
      // The API server reads new policies some moments after they were made.
      await waitUntil(
        async () => (await patch([`--as=${AGENT}`], 'n2', '--subresource=status')).text.includes('no node name'),
        { what: 'the policy to be in force', timeoutMs: 30_000 },
      );
    });

    const write = (node: string, ...more: string[]) =>
      asAgent(['patch', 'slmnodecache', node, '--type=merge', ...more, '-p', '{"status":{"summary":"1/1"}}']);

    it('lets an agent write the status of its own node', async () => {
      expect(await write('n1', '--subresource=status')).toMatchObject({ code: 0 });
    });

    it('refuses the status of another node, and names both', async () => {
      const { code, text } = await write('n2', '--subresource=status');
      expect(code).not.toBe(0);
      expect(text).toContain('the agent of node n1 may not write the SLMNodeCache of node n2');
    });

    it('lets it write nothing else of its own: no spec, no labels', async () => {
      expect((await write('n1')).text).toContain('forbidden');
      await asAgent([
        'patch',
        'slmnodecache',
        'n1',
        '--type=merge',
        '--subresource=status',
        '-p',
        '{"metadata":{"labels":{"stolen":"yes"}},"spec":{"limits":{"maxBytes":1}}}',
      ]);
      const after = JSON.parse(await clients.kubectl(['get', 'slmnodecache', 'n1', '-o', 'json'])) as {
        metadata: { labels?: object };
        spec: object;
      };
      expect([after.metadata.labels, after.spec]).toEqual([undefined, {}]);
    });

    it('refuses a token that is bound to no node', async () => {
      const extra = ['--as-user-extra=authentication.kubernetes.io/node-name=n1'];
      expect((await patch([`--as=${AGENT}`, ...extra], 'n1', '--subresource=status')).code).toBe(0);
      expect((await patch([`--as=${AGENT}`], 'n1', '--subresource=status')).text).toContain('no node name');
    });

    it('leaves the operator alone', async () => {
      expect((await patch([`--as=${OPERATOR}`], 'n2')).code).toBe(0);
    });
  });

  it('leaves the kinds and what people made of them when it is uninstalled, and takes them on when it comes back', async () => {
    const sample = await readFile(path.join(repoRoot, 'samples/inline-model.yaml'), 'utf8');
    await clients.kubectl(['-n', 'team', 'apply', '-f', '-'], { input: sample });
    await clients.helm(['uninstall', 'slm-operator', '--namespace', NAMESPACE]);
    expect(await clients.kubectl(['-n', 'team', 'get', 'slmd', '-o', 'name'])).toBe('slmdeployment.slm.dev/tiny\n');
    expect((await say('kubectl', ['get', 'csidriver', 'models.slm.dev'])).text).toContain('NotFound');
    // The namespace is there by now.
    await clients.helm(install.filter((flag) => flag !== '--create-namespace'));
    expect(await clients.kubectl(['-n', 'team', 'get', 'slmd', '-o', 'name'])).toBe('slmdeployment.slm.dev/tiny\n');
  });
});
