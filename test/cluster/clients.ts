/** Owns running kubectl and helm against one kubeconfig, whatever the caller's own environment says. */
import type { ClientOptions } from './cluster.ts';
import { tryCommand } from './command.ts';
import { lastLines } from './errors.ts';

/** The client half of a cluster. */
export function makeClients(options: {
  readonly kubeconfig: string;
  readonly tools: { readonly kubectl: string; readonly helm: string };
  /** Context in that kubeconfig. Default: its current one. */
  readonly context?: string;
}) {
  const { kubeconfig, tools, context } = options;
  const env = { ...process.env, KUBECONFIG: kubeconfig };
  const run = async (name: 'kubectl' | 'helm', args: readonly string[], clientOptions: ClientOptions = {}) => {
    const chosen = context ? [name === 'helm' ? '--kube-context' : '--context', context] : [];
    const { input, allowFailure } = clientOptions;
    const result = await tryCommand([tools[name], ...chosen, ...args], {
      env,
      ...(input === undefined ? {} : { input }),
    });
    if (result.code !== 0 && !allowFailure)
      throw new Error(`${name} ${args.slice(0, 4).join(' ')}: ${lastLines(result.stderr || result.stdout)}`);
    return result.stdout;
  };
  return {
    kubectl: (args: readonly string[], clientOptions?: ClientOptions) => run('kubectl', args, clientOptions),
    helm: (args: readonly string[], clientOptions?: ClientOptions) => run('helm', args, clientOptions),
  };
}
