/** Owns reading the command line of `npm run demo`. Pure: acts on nothing. */
import { parseArgs } from 'node:util';
import type { ProviderName } from '../cluster/cluster.ts';
import { UserError } from '../cluster/errors.ts';

export interface DemoRequest {
  readonly help: boolean;
  /** Use this context of the user's own kubeconfig instead of a local cluster. */
  readonly context?: string;
  /** Do not ask before installing into an existing cluster. */
  readonly yes: boolean;
  /** Registry path that an existing cluster pulls the three images from. */
  readonly registry?: string;
  /** Nodes of a local cluster. */
  readonly nodes: number;
  readonly provider?: ProviderName;
  /** Take away what an earlier run left in namespace demo, so that the model is pulled again. */
  readonly fresh: boolean;
  readonly question: string;
}

export const USAGE = `usage: npm run demo [-- OPTIONS]
  --nodes N               nodes of the local cluster (default 3)
  --provider bare|kind    who makes it (default: kind where a Docker engine answers, else bare)
  --fresh                 start over: delete namespace demo first, so that the model is pulled again
  --question TEXT         what to ask the model
  --context NAME          use an existing cluster, by the name of its context; asks before it installs anything
  --registry HOST/PATH    for --context: where that cluster pulls the images from (operator, server, demo-files)
  --yes                   do not ask`;

/** What the model is asked unless --question says something else. */
export const QUESTION = 'Why do leaves change colour in autumn? Answer in two sentences.';

/**
 * Reads the arguments after the script's name.
 * @throws UserError that says what to write instead
 */
export function parseArguments(args: readonly string[]): DemoRequest {
  const values = (() => {
    try {
      return parseArgs({
        args: [...args],
        options: {
          help: { type: 'boolean', short: 'h', default: false },
          context: { type: 'string' },
          registry: { type: 'string' },
          yes: { type: 'boolean', default: false },
          nodes: { type: 'string', default: '3' },
          provider: { type: 'string' },
          fresh: { type: 'boolean', default: false },
          question: { type: 'string', default: QUESTION },
        },
      }).values;
    } catch (error) {
      throw new UserError(`${error instanceof Error ? error.message : String(error)}\n${USAGE}`);
    }
  })();
  const { help, context, registry, yes, fresh, question, provider } = values;
  const nodes = Number(values.nodes);
  if (!Number.isInteger(nodes) || nodes < 1 || nodes > 9)
    throw new UserError(`--nodes is "${values.nodes}": write a number from 1 to 9`);
  if (provider !== undefined && provider !== 'bare' && provider !== 'kind')
    throw new UserError(`--provider is "${provider}": write bare or kind`);
  if (context !== undefined && registry === undefined && !help)
    throw new UserError(
      'An existing cluster pulls images from a registry: build them with "npm run images", push them, and add --registry HOST/PATH.',
    );
  if (registry !== undefined && context === undefined)
    throw new UserError('--registry goes with --context; a local cluster gets its images without a registry.');
  return {
    help,
    yes,
    fresh,
    question,
    nodes,
    ...(context === undefined ? {} : { context }),
    ...(registry === undefined ? {} : { registry: registry.replace(/\/+$/, '') }),
    ...(provider === undefined ? {} : { provider }),
  };
}
