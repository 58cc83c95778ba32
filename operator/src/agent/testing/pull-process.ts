/**
 * A puller as a process of its own, to be killed: pulls the spec in SPEC into the store at STORE, prints `ready`, and ends.
 * For tests. Never used in production.
 */
import type { SLMNodeCacheSpec } from '@slm-operator/crds';
import { systemClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { BlobStore } from '../blob-store.ts';
import { Puller } from '../puller.ts';

const { STORE: root = '', SPEC: spec = '{}' } = process.env;
const store = new BlobStore({ root, mounted: () => Promise.resolve(new Set()) });
await store.open();
const puller = new Puller({
  store,
  clock: systemClock,
  log: silentLogger,
  onChange() {
    if (!puller.snapshot().every((entry) => entry.state === 'Ready')) return;
    console.log('ready');
    void puller.stop();
  },
});
await puller.setSpec(JSON.parse(spec) as SLMNodeCacheSpec);
