/** The command line of the local cluster: `npm run cluster -- COMMAND`. Owns printing and exit codes, nothing else. */
import { spawn } from 'node:child_process';
import path from 'node:path';
import { parseArguments, type Request, USAGE } from './arguments.ts';
import { bareProcesses } from './bare/bare.ts';
import { type Cluster, downCluster, openCluster, upCluster } from './cluster.ts';
import { setDevices } from './devices/by-hand.ts';
import { UserError } from './errors.ts';
import { FAKE_NODE_LABEL } from './kwok.ts';
import { makeProgress } from './progress.ts';
import { selfcheck } from './selfcheck.ts';

const progress = makeProgress();

async function perform(request: Request): Promise<number> {
  switch (request.command) {
    case 'help':
      console.log(USAGE);
      break;
    case 'up': {
      const cluster = await upCluster({ ...request, progress });
      console.log(`\nThe cluster is up. Go on with plain kubectl in this shell:\n  ${envHint()}`);
      console.log((await cluster.kubectl(['get', 'nodes', '-l', `!${FAKE_NODE_LABEL}`, '-o', 'wide'])).trimEnd());
      break;
    }
    case 'down': {
      const step = progress.step('taking the cluster down');
      await downCluster({ purge: request.purge, progress });
      step.done();
      break;
    }
    case 'status':
      return status();
    case 'env': {
      const cluster = await running();
      console.log(`export KUBECONFIG=${quote(cluster.kubeconfig)}`);
      console.log(`export PATH=${quote(cluster.binFolder)}:"$PATH"`);
      break;
    }
    case 'kubectl':
    case 'helm':
      return passOn(request.command, request.args);
    case 'load':
      await (await running()).loadImages(request.archives.map((archive) => path.resolve(archive)));
      break;
    case 'kill':
    case 'start': {
      const step = progress.step(`node ${request.node}: ${request.command}`);
      await (await running()).node(request.node)[request.command]();
      step.done();
      break;
    }
    case 'hold':
    case 'release':
      await (await running()).node(request.node)[request.command](request.service);
      break;
    case 'exec': {
      const result = await (await running()).node(request.node).exec(request.args);
      process.stdout.write(result.stdout);
      process.stderr.write(result.stderr);
      return result.code;
    }
    case 'devices': {
      const step = progress.step(`${request.count} ${request.resource} on node ${request.node}`);
      await setDevices(await running(), request);
      step.done();
      break;
    }
    case 'selfcheck': {
      const found = await selfcheck(progress);
      for (const line of found) console.error(line);
      console.log(found.length === 0 ? 'down leaves nothing behind' : `${found.length} things were left behind`);
      return found.length === 0 ? 0 : 1;
    }
  }
  return 0;
}

async function running(): Promise<Cluster> {
  const cluster = await openCluster(progress);
  if (!cluster) throw new UserError('No cluster runs here: bring one up with "npm run cluster -- up".');
  return cluster;
}

async function status(): Promise<number> {
  const cluster = await openCluster(progress);
  if (!cluster) {
    console.log('no cluster runs; "npm run cluster -- up" brings one up');
    return 1;
  }
  console.log(`provider    ${cluster.provider}\nKUBECONFIG  ${cluster.kubeconfig}\n`);
  const list = ['get', 'nodes', '-l', `!${FAKE_NODE_LABEL}`, '-o', 'wide', '--request-timeout=5s'];
  console.log(await cluster.kubectl(list, { allowFailure: true }));
  for (const line of bareProcesses()) console.log(line);
  return 0;
}

/** Hands the terminal to a client, so that its colours, prompts and Ctrl-C work as ever. */
async function passOn(client: 'kubectl' | 'helm', args: readonly string[]): Promise<number> {
  const cluster = await running();
  const child = spawn(path.join(cluster.binFolder, client), args, {
    stdio: 'inherit',
    env: { ...process.env, KUBECONFIG: cluster.kubeconfig },
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code) => resolve(code ?? 1));
  });
}

function envHint(): string {
  const name = process.env['SLM_CLUSTER'];
  return `eval "$(${name ? `SLM_CLUSTER=${name} ` : ''}npm run --silent cluster -- env)"`;
}

function quote(text: string): string {
  return /^[\w./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

try {
  process.exitCode = await perform(parseArguments(process.argv.slice(2)));
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
