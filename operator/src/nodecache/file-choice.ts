/**
 * Which of a model's files which hardware computes: the deployments' tiers on one hand, what nodes have on the other. Owns the memory of
 * tiers that were worked out, since many deployments are alike. Pure but for that memory; asks nobody.
 */
import type { ModelRevision, SLMDeployment, SLMModel } from '@slm-operator/crds';
import { isEligible } from '../deployment/node-match.ts';
import { stableJson } from '../deployment/revision.ts';
import { fitOf } from '../hardware/fit.ts';
import { type NodeStock, presenceOf, resourcesOn } from '../hardware/node-hardware.ts';
import type { HardwareProfile, Profiles } from '../hardware/profiles.ts';
import { requestsOfTier, type Tier, tiersOf, tolerationsOf } from '../hardware/tiers.ts';
import type { FileChoice } from './demand.ts';
import type { Place } from './places.ts';
import type { KindsOfNodes } from './shelf.ts';

/** Operator configuration about hardware. */
export interface HardwareOptions {
  readonly profiles: Profiles;
  /** Classes and profiles, the best first, of a deployment that names none. */
  readonly order: readonly string[];
  /** Server images by variant. */
  readonly images: Readonly<Record<string, string>>;
}

/** Deployments whose tiers are remembered. */
const MAX_REMEMBERED = 4096;

/** @param kinds the nodes that tiers are made for, each kind once */
export function makeFileChoice(options: HardwareOptions, kinds: () => KindsOfNodes): FileChoice {
  const { profiles, order, images } = options;
  let version = '';
  let remembered = new Map<string, readonly Place[]>();
  return {
    placesOf(deployment, model, revision, pinned) {
      const now = kinds();
      if (now.version !== version || remembered.size > MAX_REMEMBERED) remembered = new Map();
      version = now.version;
      const { hardware, podTemplate, engine, resources, image } = deployment.spec;
      const { name, namespace } = model.metadata;
      const more = pinned.filter((variant) => images[variant] === undefined);
      const parts = [hardware, podTemplate?.spec, engine, resources, image, namespace, name, revision.name, more];
      const alike = stableJson(parts);
      let places = remembered.get(alike);
      if (places === undefined) {
        const nodes = now.for(podTemplate?.spec?.nodeSelector);
        const all = { ...images, ...Object.fromEntries(more.map((variant) => [variant, ''])) };
        const { tiers } = tiersOf({ deployment, model, revision, nodes, profiles, order, images: all });
        places = tiers.map((tier) => placeOf(tier, deployment));
        remembered.set(alike, places);
      }
      return places;
    },
    filesFor: (revision, model, node) => filesFor(revision, model, node, profiles),
  };
}

function placeOf(tier: Tier, deployment: SLMDeployment): Place {
  const settings = deployment.spec.podTemplate?.spec;
  const key = stableJson(['tier', tier.name, tier.count, requestsOfTier(tier), tier.memory.device, settings]);
  return {
    digest: tier.bytes.digest,
    key,
    standing: (node) => {
      // Whether it is free is nobody's concern here: the bytes belong where a pod could ever be.
      const { eligible } = fitOf({ tier, deployment, nodes: [node], waitForFit: false, pending: 0 });
      if (eligible.length > 0) return 'yes';
      return isEligible(node, settings?.nodeSelector, tolerationsOf(tier.profile, deployment)) ? 'lost' : 'no';
    },
  };
}

/** The file for each device of the node; that for its processors where it is one of their own, or nothing else is there. */
function filesFor(revision: ModelRevision, model: SLMModel, node: NodeStock, profiles: Profiles): readonly string[] {
  const format = model.status?.metadata?.format ?? 'GGUF';
  const digests = new Set<string>();
  for (const profile of profiles.values()) {
    if (profile.class === 'cpu' || !isOn(profile, node)) continue;
    const digest = variantFor(revision, profile) ?? (profile.formats.includes(format) ? revision.digest : undefined);
    if (digest !== undefined) digests.add(digest);
  }
  const processors = variantFor(revision, { name: 'cpu', class: 'cpu' });
  if (processors !== undefined) digests.add(processors);
  return digests.size > 0 ? [...digests] : [revision.digest];
}

function variantFor({ variants = [] }: ModelRevision, { name, class: kind }: Pick<HardwareProfile, 'name' | 'class'>) {
  const found =
    variants.find(({ accelerators }) => accelerators.includes(name)) ??
    variants.find(({ accelerators }) => accelerators.includes(kind));
  return found?.digest;
}

function isOn(profile: HardwareProfile, node: NodeStock): boolean {
  if (profile.resources.length === 0)
    return profile.nodeLabels.length > 0 && presenceOf(profile, undefined, node).state === 'offered';
  return resourcesOn(profile, node).some((resource) => presenceOf(profile, resource, node).state === 'offered');
}
