/** Owns reading the command line of `npm run cluster`. Pure: acts on nothing. */
import { NODE_SERVICES, type NodeService } from './bare/node.ts';
import type { ProviderName } from './cluster.ts';
import { UserError } from './errors.ts';

/** What the user asks for. */
export type Request =
  | { readonly command: 'up'; readonly nodes?: number; readonly provider?: ProviderName; readonly kwok?: number }
  | { readonly command: 'down'; readonly purge: boolean }
  | { readonly command: 'status' | 'env' | 'help' | 'selfcheck' }
  | { readonly command: 'kubectl' | 'helm'; readonly args: readonly string[] }
  | { readonly command: 'load'; readonly archives: readonly string[] }
  | { readonly command: 'kill' | 'start'; readonly node: string }
  | { readonly command: 'hold' | 'release'; readonly node: string; readonly service: NodeService }
  | { readonly command: 'exec'; readonly node: string; readonly args: readonly string[] }
  | {
      readonly command: 'devices';
      readonly node: string;
      readonly resource: string;
      readonly count: number;
      readonly healthy?: number;
    };

/** What `help` prints. */
export const USAGE = `usage: npm run cluster -- COMMAND
  up [--nodes N] [--provider bare|kind] [--kwok N]   bring it up, or complete the one that runs (default: 3 nodes)
  down [--purge]                                     end it; --purge also deletes images and keys
  status                                             what runs
  env                                                export lines for a shell: eval "$(npm run --silent cluster -- env)"
  kubectl ARG ...   helm ARG ...                     run these against it
  load ARCHIVE ...                                   bring image archives (OCI or docker save) to every node
  node kill|start NODE                               power failure, and power back
  node hold|release NODE [SERVICE]                   stop a service and keep it stopped (default: kubelet)
  node exec NODE COMMAND ...                         run a command on a node
  devices NODE RESOURCE COUNT [--healthy N]          make a node offer devices that are none; 0 takes them away
  selfcheck                                          prove on a second cluster that "down" leaves nothing behind
SLM_CLUSTER=NAME chooses a cluster beside the default one.`;

/**
 * Reads the arguments after the script's name.
 * @throws UserError that says what to write instead
 */
export function parseArguments(args: readonly string[]): Request {
  const [command, ...rest] = args;
  switch (command) {
    case 'up':
      return { command, ...parseUp(rest) };
    case 'down': {
      const unknown = rest.find((arg) => arg !== '--purge');
      if (unknown) throw new UserError(`"down" knows only --purge, and not ${unknown}.`);
      return { command, purge: rest.includes('--purge') };
    }
    case 'status':
    case 'env':
    case 'selfcheck':
      if (rest.length > 0) throw new UserError(`"${command}" takes no argument, and got ${rest[0]}.`);
      return { command };
    case 'kubectl':
    case 'helm':
      return { command, args: rest };
    case 'load':
      if (rest.length === 0) throw new UserError('"load" needs the path of at least one image archive.');
      return { command, archives: rest };
    case 'node':
      return parseNode(rest);
    case 'devices':
      return { command, ...parseDevices(rest) };
    case undefined:
    case 'help':
    case '--help':
    case '-h':
      return { command: 'help' };
    default:
      throw new UserError(`There is no command "${command}".\n${USAGE}`);
  }
}

function parseUp(args: readonly string[]) {
  const result: { nodes?: number; provider?: ProviderName; kwok?: number } = {};
  const words = args.flatMap((arg) =>
    /^--\w+=/.test(arg) ? [arg.slice(0, arg.indexOf('=')), arg.slice(arg.indexOf('=') + 1)] : [arg],
  );
  for (let index = 0; index < words.length; index += 2) {
    const [flag, value] = [words[index], words[index + 1]];
    if (flag === '--nodes' || flag === '--kwok') {
      if (!/^[1-9]\d{0,3}$/.test(value ?? ''))
        throw new UserError(`${flag} needs a number from 1 on, such as ${flag} 3.`);
      result[flag === '--nodes' ? 'nodes' : 'kwok'] = Number(value);
    } else if (flag === '--provider') {
      if (value !== 'bare' && value !== 'kind') throw new UserError('--provider needs "bare" or "kind".');
      result.provider = value;
    } else {
      throw new UserError(`"up" knows --nodes, --provider and --kwok, and not ${flag}.`);
    }
  }
  return result;
}

function parseDevices([node, resource, count, ...rest]: readonly string[]) {
  const example = 'such as "devices n1 nvidia.com/gpu 2"';
  if (!node || !resource) throw new UserError(`Write "devices NODE RESOURCE COUNT", ${example}.`);
  if (!/^[a-z0-9.-]+\.[a-z]+\/[\w.-]+$/.test(resource))
    throw new UserError(`"${resource}" is no name of a vendor's resource: write DOMAIN/NAME, ${example}.`);
  if (!/^\d{1,3}$/.test(count ?? '')) throw new UserError(`"devices" needs a number of devices, ${example}.`);
  const request = { node, resource, count: Number(count) };
  if (rest.length === 0) return request;
  const healthy = rest[0] === '--healthy' ? Number(rest[1]) : Number.NaN;
  if (rest.length !== 2 || !(healthy >= 0 && healthy <= request.count))
    throw new UserError(`After the number "devices" knows only --healthy N, from 0 to ${request.count}.`);
  return { ...request, healthy };
}

function parseNode(args: readonly string[]): Request {
  const [action, node, ...rest] = args;
  if (!node) throw new UserError('Write "node kill|start|hold|release|exec NODE", such as "node kill n2".');
  switch (action) {
    case 'kill':
    case 'start':
      return { command: action, node };
    case 'hold':
    case 'release': {
      const service = rest[0] ?? 'kubelet';
      if (!isService(service))
        throw new UserError(`A node has no service "${service}": choose one of ${NODE_SERVICES.join(', ')}.`);
      return { command: action, node, service };
    }
    case 'exec':
      if (rest.length === 0) throw new UserError('"node exec NODE" needs a command to run.');
      return { command: 'exec', node, args: rest };
    default:
      throw new UserError(`Write kill, start, hold, release or exec after "node", and not "${action}".`);
  }
}

function isService(name: string): name is NodeService {
  return (NODE_SERVICES as readonly string[]).includes(name);
}
