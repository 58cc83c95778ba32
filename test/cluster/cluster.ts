/**
 * Owns the one interface under which tests, demo and benchmarks see a Kubernetes cluster, whoever provides it, and the
 * choice of the provider.
 */
import { downBareCluster, isBareClusterRunning, openBareCluster, upBareCluster } from './bare/bare.ts';
import type { NodeService } from './bare/node.ts';
import { whyNoBareCluster } from './bare/requirements.ts';
import type { CommandResult } from './command.ts';
import { dockerAnswers, openKindCluster, upKindCluster } from './kind.ts';
import type { Progress } from './progress.ts';

export { existingCluster } from './existing.ts';

/** Who makes the nodes: our own processes, or kind in a Docker engine. */
export type ProviderName = 'bare' | 'kind';

/** How kubectl or helm is run. */
export interface ClientOptions {
  /** Text for its standard input. */
  readonly input?: string;
  /** Return the result whatever the exit code is, instead of throwing when it is not 0. Default false. */
  readonly allowFailure?: boolean;
}

/** A running cluster. */
export interface Cluster {
  /** `bare`, `kind`, or `existing` for one that was there before us. */
  readonly provider: ProviderName | 'existing';
  /** Path of a kubeconfig with all rights. */
  readonly kubeconfig: string;
  /** Folder with kubectl and helm, for a shell's PATH. */
  readonly binFolder: string;
  /** Names of the nodes that run pods, as kubectl shows them. */
  readonly nodeNames: readonly string[];
  /** Address at which pods reach a server on this machine; undefined where they reach none. */
  readonly hostAddress: string | undefined;
  /** Runs kubectl; resolves to its standard output. Throws with what it said when it fails. */
  kubectl(args: readonly string[], options?: ClientOptions): Promise<string>;
  /** Runs helm; resolves to its standard output. Throws with what it said when it fails. */
  helm(args: readonly string[], options?: ClientOptions): Promise<string>;
  /** Brings image archives (OCI or Docker) to every node that lacks them. */
  loadImages(archives: readonly string[]): Promise<void>;
  /**
   * Control over a node.
   * @throws UserError when there is no such node or the provider has no power over it
   */
  node(name: string): ClusterNode;
  /** Control over the API server; for bare and kind. */
  readonly apiServer: {
    /** Kills it: connections break and new ones are refused. What runs on the nodes goes on; who led by a lease ends. */
    stop(): Promise<void>;
    /** Starts it again, and who ended with it; resolves when it is ready. */
    start(): Promise<void>;
  };
  /** Ends the cluster. Images stay on disk for the next `up`, unless `purge` is set. */
  down(options?: { readonly purge?: boolean }): Promise<void>;
}

/** Control over one node. */
export interface ClusterNode {
  readonly name: string;
  /** Power failure: everything on it ends at once, connections to it hang. */
  kill(): Promise<void>;
  /** Power back; resolves when the node is Ready, by news from after the start. */
  start(): Promise<void>;
  /** Stops a service and keeps it stopped; containers go on. kind can hold all but kube-proxy, a pod there. */
  hold(service: NodeService): Promise<void>;
  /** Lets a held service run again. */
  release(service: NodeService): Promise<void>;
  /** Runs a command on the node, outside of any pod. */
  exec(command: readonly string[], input?: string): Promise<CommandResult>;
  /** Where this machine sees the node's root folder, until the node loses its power. Only root may look inside. */
  rootFolder(): Promise<string>;
}

/** What `upCluster` is asked for. */
export interface UpOptions {
  /** Default 3. A cluster that runs already keeps the nodes it has, and gets those that lack (not with kind). */
  readonly nodes?: number;
  /** Default: kind where a Docker engine answers, else bare. */
  readonly provider?: ProviderName;
  /** Fake nodes that join beside the real ones. Default 0. */
  readonly kwok?: number;
  /** Seconds of silence after which a node counts as NotReady. Default 8, and 40 with fake nodes. */
  readonly nodeGraceSeconds?: number;
  readonly progress: Progress;
}

/** Brings a cluster up, or joins the one that runs. Resolves when its nodes are Ready and its DNS answers. */
export async function upCluster(options: UpOptions): Promise<Cluster> {
  return (await chooseProvider(options.provider)) === 'kind' ? upKindCluster(options) : upBareCluster(options);
}

/** The cluster that runs, or undefined. Starts nothing. */
export async function openCluster(progress: Progress): Promise<Cluster | undefined> {
  return (await openBareCluster(progress)) ?? (await openKindCluster(progress));
}

/** Ends the cluster that runs, and clears away what is left of one whose `up` did not come to its end. */
export async function downCluster(options: { readonly purge?: boolean; readonly progress: Progress }): Promise<void> {
  await (await openKindCluster(options.progress))?.down();
  await downBareCluster(options);
}

/** Why no cluster can be brought up here, as one sentence that says what to do; undefined when one can. */
export async function whyNoCluster(provider?: ProviderName): Promise<string | undefined> {
  return (await chooseProvider(provider)) === 'kind' ? undefined : whyNoBareCluster();
}

/** The provider that is asked for, else that of the cluster that runs, else kind where a Docker engine answers. */
async function chooseProvider(asked?: ProviderName): Promise<ProviderName> {
  if (asked) return asked;
  if (isBareClusterRunning()) return 'bare';
  return (await dockerAnswers()) ? 'kind' : 'bare';
}
