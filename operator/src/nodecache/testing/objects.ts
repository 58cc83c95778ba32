/** Plain values for tests of what nodes are to hold: nodes that are empty, uses and demands that need only what a test is about. */
import type { SLMDeployment, SLMModel } from '@slm-operator/crds';
import type { NodeStock } from '../../hardware/node-hardware.ts';
import { builtInProfiles, defaultOrder } from '../../hardware/profiles.ts';
import type { NamespaceLabels } from '../../model/sharing.ts';
import { type Demand, demandOf, type FileChoice, usesModel } from '../demand.ts';
import { type HardwareOptions, makeFileChoice } from '../file-choice.ts';
import { kindsOf } from '../shelf.ts';
import { modelOfUse, type RevisionUse } from '../views.ts';
import type { WantedInput } from '../wanted.ts';

/** A node that is ready and has processors alone. */
export function nodeOf(more: Partial<NodeStock> = {}): NodeStock {
  const { allocatable = {} } = more;
  return {
    name: 'n1',
    labels: {},
    taints: [],
    ready: true,
    cordoned: false,
    deleted: false,
    capacity: allocatable,
    allocatable,
    free: allocatable,
    devices: [],
    ...more,
  };
}

/** A ReplicaSet of deployment chat of model demo/m. */
export function useOf(digest: string, more: Partial<RevisionUse> = {}): RevisionUse {
  return { namespace: 'demo', model: 'm', deployment: 'chat', digest, requests: {}, claims: false, ...more };
}

const images = { cpu: 'cpu', cuda: 'cuda', vulkan: 'vulkan', openvino: 'openvino' };

/** The real choice, with built-in profiles and an image for each of them, for a cluster of these nodes. */
export function choiceFor(nodes: readonly NodeStock[], options: Partial<HardwareOptions> = {}): FileChoice {
  const kinds = kindsOf(nodes);
  return makeFileChoice({ profiles: builtInProfiles(), order: defaultOrder, images, ...options }, () => kinds);
}

/** Everything that there is in a small world. */
export interface World {
  readonly models: readonly SLMModel[];
  readonly deployments: readonly SLMDeployment[];
  readonly uses: readonly RevisionUse[];
  /** Of namespaces, for models that are shared by label. */
  readonly labelsOf?: NamespaceLabels | undefined;
}

export function demandsIn({ models, deployments, uses, labelsOf }: World, choice: FileChoice): Demand[] {
  return models.map((model) =>
    demandOf({ model, deployments: deployments.filter((one) => usesModel(one, model)), uses, choice, labelsOf }),
  );
}

/** What `wantedFor` asks of such a world. */
export function inputFor(
  world: World,
  choice: FileChoice,
): Pick<WantedInput, 'demands' | 'isKnown' | 'lists' | 'usedOf'> {
  const demands = demandsIn(world, choice);
  return {
    demands,
    isKnown: (namespace, digest) =>
      demands.some((demand) => demand.namespace === namespace && demand.files.has(digest)),
    lists: (model, digest) => demands.some((demand) => demand.model === model && demand.files.has(digest)),
    usedOf: (namespace, digest) =>
      world.uses.filter((use) => use.namespace === namespace && use.digest === digest).map(modelOfUse),
  };
}
