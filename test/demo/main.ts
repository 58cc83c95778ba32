/**
 * `npm run demo`: from nothing to an answer. Brings a cluster up, installs the chart, applies samples/quickstart.yaml, shows the
 * pull, asks a question and leaves everything running. Every step can be repeated; a second run takes what is there.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createInterface } from 'node:readline/promises';
import { repoRoot } from '../cache.ts';
import { type Cluster, upCluster } from '../cluster/cluster.ts';
import { UserError } from '../cluster/errors.ts';
import { existingCluster } from '../cluster/existing.ts';
import { makeProgress } from '../cluster/progress.ts';
import { type DemoRequest, parseArguments, USAGE } from './arguments.ts';
import { ask, forwardPort, readApiKey } from './chat.ts';
import { deleteNamespace, installAll, prepareImages } from './install.ts';
import { makeLiveBlock } from './live-block.ts';
import { pullLines, pullsOf } from './pull-view.ts';
import { makeStopwatch } from './stopwatch.ts';
import { openClient, reasonOf, waitUntilReady } from './watch.ts';

const NAMESPACE = 'demo';
const DEPLOYMENT = 'chat';
const MODEL = 'smollm2';
const QUICKSTART = 'samples/quickstart.yaml';
const READY_TIMEOUT_MS = 600_000;
/** The speed of an ordinary line to the Hub: at a local one's there would be nothing to see. */
const HUB_BYTES_PER_SECOND = 40e6;

const progress = makeProgress();
const watch = makeStopwatch();

async function demo(request: DemoRequest): Promise<void> {
  const options = {
    progress,
    hubBytesPerSecond: HUB_BYTES_PER_SECOND,
    ...(request.registry ? { registry: request.registry } : {}),
  };
  const [cluster, images] = await watch.time('cluster, images', async () => {
    // A question must not drown in lines of progress.
    const existing = request.context === undefined ? undefined : await openExisting(request.context, request.yes);
    return Promise.all([existing ?? upLocal(request), prepareImages(options)]);
  });
  await watch.time('install', () => installAll(cluster, images, options));
  if (request.fresh) await watch.time('start over', () => startOver(cluster));

  await watch.time('apply', async () => {
    command(`kubectl apply -f ${QUICKSTART}`);
    const input = await readFile(path.join(repoRoot, QUICKSTART), 'utf8');
    show(await cluster.kubectl(['apply', '-f', '-'], { input }));
  });
  await watch.time('pull and start', () => showUntilReady(cluster));

  const kinds = 'slmm,slmd,slmnc';
  command(`kubectl -n ${NAMESPACE} get ${kinds}`);
  show(await cluster.kubectl(['-n', NAMESPACE, 'get', kinds]));

  await watch.time('question', () => talk(cluster, request.question));
  console.log(`\nHow long it took:\n${watch.table()}`);
  console.log(`\n${nextCommands(request)}`);
}

function upLocal({ nodes, provider }: DemoRequest): Promise<Cluster> {
  return upCluster({ nodes, ...(provider === undefined ? {} : { provider }), progress });
}

async function openExisting(context: string, yes: boolean): Promise<Cluster> {
  const cluster = await existingCluster(context, progress);
  if (!yes) await askForConsent(context, cluster.nodeNames.length);
  return cluster;
}

async function askForConsent(context: string, nodes: number): Promise<void> {
  if (!process.stdin.isTTY)
    throw new UserError(`To install into the cluster of context "${context}" without being asked, add --yes.`);
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  try {
    const answer = await terminal.question(
      `Install the slm-operator chart (namespace slm-system, with a privileged DaemonSet on ${nodes} nodes), namespaces slm-demo-files and demo, into the cluster of context "${context}"? [y/N] `,
    );
    if (!/^y(es)?$/i.test(answer.trim())) throw new UserError('Nothing was installed.');
  } finally {
    terminal.close();
  }
}

async function startOver(cluster: Cluster): Promise<void> {
  const step = progress.step('taking away what an earlier run left');
  await deleteNamespace(cluster, NAMESPACE);
  step.done();
}

/** Draws the pull, node by node, and what the deployment waits for. */
async function showUntilReady(cluster: Cluster): Promise<void> {
  const client = openClient(cluster);
  const block = makeLiveBlock();
  try {
    const seen = await waitUntilReady(client, NAMESPACE, DEPLOYMENT, {
      timeoutMs: READY_TIMEOUT_MS,
      onSight: (sight) => block.show([...pullLines(pullsOf(sight.model, sight.caches)), `  ${reasonOf(sight)}`]),
    });
    block.show([...pullLines(pullsOf(seen.model, seen.caches)), `  ${DEPLOYMENT} is ready`]);
  } finally {
    block.end();
    await client.close();
  }
}

async function talk(cluster: Cluster, question: string): Promise<void> {
  const key = await readApiKey(cluster, NAMESPACE, `${DEPLOYMENT}-api-keys`);
  await using forward = await forwardPort(cluster, NAMESPACE, DEPLOYMENT, 8080);
  console.log(`\n> ${question}\n`);
  const answer = await ask({
    url: forward.url,
    key,
    model: DEPLOYMENT,
    question,
    onText: (text) => process.stdout.write(text),
  });
  console.log(
    `\n\n${answer.tokens} tokens, first after ${answer.firstTokenSeconds.toFixed(2)} s, then ${answer.tokensPerSecond.toFixed(1)} tokens per second (${MODEL}, CPU)`,
  );
}

function nextCommands({ context }: DemoRequest): string {
  const name = process.env['SLM_CLUSTER'];
  const npm = `${name ? `SLM_CLUSTER=${name} ` : ''}npm run`;
  const first = context
    ? `kubectl config use-context ${context}`
    : `eval "$(${npm} --silent cluster -- env)"     # KUBECONFIG and PATH for this shell`;
  return `All of it keeps running. To go on:
  ${first}
  kubectl -n ${NAMESPACE} get slmm,slmd,slmnc -o wide
  kubectl -n ${NAMESPACE} describe slmd ${DEPLOYMENT}
  kubectl -n ${NAMESPACE} scale slmd/${DEPLOYMENT} --replicas=2
  kubectl -n ${NAMESPACE} port-forward service/${DEPLOYMENT} 8080 11434     # OpenAI's API and Ollama's
  kubectl explain slmd.spec${context ? '' : `\n  ${npm} cluster -- down`}`;
}

function command(line: string): void {
  console.log(`\n$ ${line}`);
}

function show(output: string): void {
  console.log(output.trimEnd());
}

try {
  const request = parseArguments(process.argv.slice(2));
  if (request.help) console.log(USAGE);
  else await demo(request);
} catch (error) {
  console.error(`\n${error instanceof Error ? error.message : String(error)}`);
  const step = watch.running();
  if (step && !(error instanceof UserError && step === 'cluster, images')) {
    console.error(`The demo stopped at "${step}". What ran before stays. The logs:
  eval "$(npm run --silent cluster -- env)"
  kubectl -n slm-system logs deployment/slm-operator; kubectl -n slm-system logs daemonset/slm-operator-agent
  kubectl -n ${NAMESPACE} get events --sort-by=.lastTimestamp`);
  }
  // Images may still be in the making; what is half done there is never taken for whole.
  process.exit(1);
}
