/**
 * A process with a manager and one controller, for tests that kill it. Usage:
 * `node failover-replica.ts KUBECONFIG NAMESPACE IDENTITY`. Says `synced` when it stands by and `leading` when it acts.
 *
 * The controller's work cannot be repeated without leaving a trace: for every ConfigMap `input` it appends the input's
 * version and its own identity to the history in `effect-NAME`, guarded by the resource version that it read.
 */
import { accessFrom, loadKubeConfig } from '../../kube/config.ts';
import { makeKubeClient } from '../../kube/http-client.ts';
import { ConfigMap, makeKey, parseKey } from '../../kube/resource.ts';
import { byLabel, defineController, watches } from '../controller.ts';
import { silentLogger } from '../log.ts';
import { makeManager, terminationSignal } from '../manager.ts';

const [kubeconfig, namespace, identity] = process.argv.slice(2);
if (kubeconfig === undefined || namespace === undefined || identity === undefined) {
  throw new Error('usage: failover-replica.ts KUBECONFIG NAMESPACE IDENTITY');
}

const client = makeKubeClient({ access: accessFrom(loadKubeConfig({ file: kubeconfig })), userAgent: 'failover/1' });
const manager = makeManager({
  client,
  log: silentLogger,
  leaderElection: {
    name: 'failover',
    namespace,
    identity,
    leaseDurationMs: 3000,
    renewDeadlineMs: 2000,
    retryPeriodMs: 300,
  },
});
const inputs = manager.store(ConfigMap, { namespace, labelSelector: 'role=input' });
const effects = manager.store(ConfigMap, { namespace, labelSelector: 'role=effect' });

manager.add(
  defineController({
    name: 'failover',
    concurrency: 4,
    sources: [
      watches(ConfigMap, undefined, { namespace, labelSelector: 'role=input' }),
      // An input that went while nobody led is noticed through what it left behind.
      watches(ConfigMap, byLabel('input-key'), { namespace, labelSelector: 'role=effect' }),
    ],
    async reconcile(key, { signal }) {
      // Labels hold no slash.
      const name = key.includes('/') ? parseKey(key).name : key;
      const input = inputs.get(makeKey(namespace, name));
      const effect = effects.get(makeKey(namespace, `effect-${name}`));
      if (input === undefined) {
        if (effect === undefined) return;
        const preconditions = { uid: effect.metadata?.uid, resourceVersion: effect.metadata?.resourceVersion };
        await client.delete(ConfigMap, { namespace, name: `effect-${name}` }, { signal, preconditions });
        return;
      }
      const version = input.data?.['version'] ?? '';
      const entry = `${version}@${identity}`;
      if (effect === undefined) {
        const metadata = { name: `effect-${name}`, namespace, labels: { role: 'effect', 'input-key': name } };
        await client.create(ConfigMap, { metadata, data: { history: entry } }, { signal });
        return;
      }
      const history = (effect.data?.['history'] ?? '').split(' ');
      if (history.at(-1)?.startsWith(`${version}@`)) return;
      await client.update(ConfigMap, { ...effect, data: { history: [...history, entry].join(' ') } }, { signal });
    },
  }),
);

const run = manager.start(terminationSignal());
void Promise.all([inputs.whenSynced(), effects.whenSynced()]).then(() => console.log('synced'));
void manager.running.then(() => console.log('leading'));
try {
  await run;
} catch (error) {
  console.log(`lost: ${String(error)}`);
  process.exit(1);
} finally {
  await client.close();
}
