/**
 * Metrics under controller-runtime's and client-go's exact names, so that existing dashboards and alerts work. Owns the
 * names, labels and buckets; nothing here decides anything.
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import type { RequestRecord } from '../kube/client.ts';
import type { QueueObserver, WorkQueue } from './workqueue.ts';

/** The four results that controller-runtime counts. */
export type ReconcileResult = 'success' | 'error' | 'requeue' | 'requeue_after';

export interface ControllerMetrics {
  readonly queue: QueueObserver;
  /** Reads depth of work in progress at each scrape. */
  observeQueue(queue: WorkQueue): void;
  maxConcurrent(workers: number): void;
  started(): void;
  finished(result: ReconcileResult, seconds: number): void;
}

export interface RuntimeMetrics {
  /** Add your own metrics here; the manager serves them all. */
  readonly registry: Registry;
  /** Give it to `makeKubeClient({onRequest})`: counts `rest_client_requests_total` and requests by verb and resource. */
  readonly onRequest: (record: RequestRecord) => void;
  controller(name: string): ControllerMetrics;
  /** `leader_election_master_status`: 1 while leading. */
  leading(lease: string, leads: boolean): void;
  /** A reflector listed everything anew, or its watch ended with an error. */
  reflector(resource: string, event: 'list' | 'watch' | 'watch_error' | 'list_error'): void;
}

/** client-go's: 10 ns to 1000 s, a bucket for each power of ten. */
const QUEUE_BUCKETS = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1, 10, 100, 1000];
/** controller-runtime's own list for reconciles. */
const RECONCILE_BUCKETS = [
  0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.25, 1.5, 1.75, 2,
  2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 40, 50, 60,
];
const RESULTS: readonly ReconcileResult[] = ['success', 'error', 'requeue', 'requeue_after'];

export function makeRuntimeMetrics(registry: Registry = new Registry()): RuntimeMetrics {
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[]) =>
    new Counter({ name, help, labelNames, registers });
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[], collect?: () => void) =>
    new Gauge({ name, help, labelNames, registers, ...(collect === undefined ? {} : { collect }) });
  const histogram = <L extends string>(name: string, help: string, labelNames: readonly L[], buckets: number[]) =>
    new Histogram({ name, help, labelNames, buckets, registers });

  const reconciles = counter('controller_runtime_reconcile_total', 'Reconciles by controller and result.', [
    'controller',
    'result',
  ]);
  const errors = counter('controller_runtime_reconcile_errors_total', 'Reconciles that failed.', ['controller']);
  const times = histogram(
    'controller_runtime_reconcile_time_seconds',
    'How long a reconcile took.',
    ['controller'],
    RECONCILE_BUCKETS,
  );
  const active = gauge('controller_runtime_active_workers', 'Reconciles running now.', ['controller']);
  const most = gauge('controller_runtime_max_concurrent_reconciles', 'Workers of a controller.', ['controller']);

  const queueLabels = ['name', 'controller'] as const;
  const depth = gauge('workqueue_depth', 'Keys that wait for a worker.', queueLabels);
  const adds = counter('workqueue_adds_total', 'Keys added.', queueLabels);
  const waits = histogram('workqueue_queue_duration_seconds', 'How long a key waited.', queueLabels, QUEUE_BUCKETS);
  const works = histogram(
    'workqueue_work_duration_seconds',
    'How long a key was worked on.',
    queueLabels,
    QUEUE_BUCKETS,
  );
  const retries = counter('workqueue_retries_total', 'Keys added again after a failure.', queueLabels);
  const queues = new Map<string, WorkQueue>();
  gauge(
    'workqueue_unfinished_work_seconds',
    'Sum of the times of all keys in work.',
    queueLabels,
    function (this: Gauge) {
      for (const [name, queue] of queues) {
        const sum = queue.inWork().reduce((total, seconds) => total + seconds, 0);
        this.set({ name, controller: name }, sum);
      }
    },
  );
  gauge(
    'workqueue_longest_running_processor_seconds',
    'The longest time that a key in work has been worked on.',
    queueLabels,
    function (this: Gauge) {
      for (const [name, queue] of queues) this.set({ name, controller: name }, Math.max(0, ...queue.inWork()));
    },
  );

  const requests = counter('rest_client_requests_total', 'Requests to the API server by code, method and host.', [
    'code',
    'method',
    'host',
  ]);
  const byResource = counter('kube_client_requests_total', 'Requests to the API server by verb, resource and code.', [
    'verb',
    'resource',
    'code',
  ]);
  const master = gauge('leader_election_master_status', '1 while this process holds the lease.', ['name']);
  const reflections = counter('reflector_events_total', 'Lists and watches begun and failed.', ['resource', 'event']);

  return {
    registry,
    onRequest({ code, method, host, verb, resource }) {
      requests.inc({ code, method, host });
      if (resource !== '') byResource.inc({ verb, resource, code });
    },
    controller(name) {
      const labels = { name, controller: name };
      // Alerts on rates need the zero before the first event.
      for (const result of RESULTS) reconciles.inc({ controller: name, result }, 0);
      errors.inc({ controller: name }, 0);
      active.set({ controller: name }, 0);
      adds.inc(labels, 0);
      retries.inc(labels, 0);
      depth.set(labels, 0);
      return {
        queue: {
          added: () => adds.inc(labels),
          depth: (keys) => depth.set(labels, keys),
          taken: (seconds) => waits.observe(labels, seconds),
          finished: (seconds) => works.observe(labels, seconds),
          retried: () => retries.inc(labels),
        },
        observeQueue: (queue) => queues.set(name, queue),
        maxConcurrent: (workers) => most.set({ controller: name }, workers),
        started: () => active.inc({ controller: name }),
        finished(result, seconds) {
          active.dec({ controller: name });
          reconciles.inc({ controller: name, result });
          if (result === 'error') errors.inc({ controller: name });
          times.observe({ controller: name }, seconds);
        },
      };
    },
    leading: (name, leads) => master.set({ name }, leads ? 1 : 0),
    reflector: (resource, event) => reflections.inc({ resource, event }),
  };
}
