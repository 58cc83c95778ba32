/**
 * The kinds of hardware that a deployment's pods may run on, the best first: from what its spec names, what the operator's
 * profiles say, what nodes have, and which files the model comes in. Owns the names of tiers. Pure; whether there is room is
 * `fit.ts`'s.
 */
import type { HardwareClass, ModelRevision, ModelVariant, Reason, SLMDeployment, SLMModel } from '@slm-operator/crds';
import {
  estimateMemory,
  type MemoryEstimate,
  type ResolvedEngine,
  type Resources,
  resolveEngine,
  resourcesFor,
} from '../deployment/memory.ts';
import { isEligible } from '../deployment/node-match.ts';
import { type Amounts, amountsOf } from './amounts.ts';
import { deviceMemory, type NodeStock, type Present, presentOn } from './node-hardware.ts';
import { type DeviceClaim, expandName, type HardwareProfile, isImageReference, type Profiles } from './profiles.ts';

/** The files that a tier serves. */
export interface TierBytes {
  /** Name in `spec.variants` of the model; undefined: `spec.source`. */
  readonly variant: string | undefined;
  readonly digest: string;
  readonly size: number;
  readonly files: ModelRevision['files'];
  readonly sources: ModelRevision['sources'];
  readonly metadata?: NonNullable<ModelVariant['metadata']>;
  readonly estimate?: NonNullable<ModelVariant['estimate']>;
}

/** What pods can run on: a profile with one resource of it. */
export interface Tier {
  /** Unique among tiers, and a DNS label: the profile's name for its first resource, else with the resource's last part. */
  readonly name: string;
  readonly class: HardwareClass;
  readonly profile: HardwareProfile;
  /**
   * Place of the name that it comes from in the deployment's line, from 0: only for a free device of an earlier place is there
   * anything to wait; tiers of one place are equally good but for their order.
   */
  readonly rank: number;
  /** Extended resource that a pod takes. */
  readonly resource: string | undefined;
  readonly claim: DeviceClaim | undefined;
  /** Devices for each pod; 0 on processors. */
  readonly count: number;
  readonly bytes: TierBytes;
  /** SLM_DEVICE; undefined for tier cpu, whose pods are told nothing new. */
  readonly device: string | undefined;
  /** Variant of the server image, or a whole reference. */
  readonly image: string;
  readonly engine: ResolvedEngine;
  readonly memory: MemoryEstimate;
  /** Of the server container, the device among them. */
  readonly resources: Resources;
}

/** A name of the spec that stands for no tier. */
export interface TierProblem {
  /** As the spec has it. */
  readonly name: string;
  readonly reason: Extract<Reason, 'UnknownProfile' | 'NoVariant' | 'NoServerImage' | 'ClaimsNotServed'>;
  readonly message: string;
}

export interface TiersInput {
  readonly deployment: SLMDeployment;
  readonly model: SLMModel;
  readonly revision: ModelRevision;
  readonly nodes: readonly NodeStock[];
  readonly profiles: Profiles;
  /** Order of a deployment that says nothing. */
  readonly order: readonly string[];
  /** Server images by variant: the operator's, over which go those of the revision. */
  readonly images: Readonly<Record<string, string>>;
}

export interface Tiers {
  /** The best first. */
  readonly tiers: readonly Tier[];
  readonly problems: readonly TierProblem[];
  /** The spec names no hardware. */
  readonly auto: boolean;
}

/** Bound of the schema for `status.hardware.tiers`. */
const MAX_TIERS = 16;
const MAX_NAME = 40;

/** The tier of processors: the one whose ReplicaSets are named as before there were tiers. */
export const CPU_TIER = 'cpu';

/** The tiers of a deployment. */
export function tiersOf(input: TiersInput): Tiers {
  const { deployment, order } = input;
  const { hardware } = deployment.spec;
  const names = hardware === undefined ? order : namesOf(hardware);
  const auto = hardware === undefined;
  const found = expandAll(input, names, auto);
  // Somebody must say why nothing runs: with nothing to choose from, the order is taken by its word.
  if (auto && found.tiers.length === 0) return { ...expandAll(input, names, false), auto };
  return { tiers: found.tiers, problems: auto ? [] : found.problems, auto };
}

/** The line of `spec.hardware`, without repetition. */
export function namesOf(hardware: NonNullable<SLMDeployment['spec']['hardware']>): readonly string[] {
  if (hardware.policy === 'Never') return [hardware.preferred];
  return [...new Set([hardware.preferred, ...(hardware.fallback ?? ['cpu'])])];
}

/** `nvidia` for the profile's first resource, `nvidia-mig-1g-10gb` for others. */
export function tierName(profile: Pick<HardwareProfile, 'name' | 'resources'>, resource: string | undefined): string {
  if (resource === undefined || resource === profile.resources[0]) return profile.name;
  const last = resource.slice(resource.indexOf('/') + 1);
  const label = last.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-');
  return `${profile.name}-${label}`.slice(0, MAX_NAME).replaceAll(/^-+|-+$/g, '');
}

interface Candidate {
  readonly profile: HardwareProfile;
  readonly resource: string | undefined;
}

function expandAll(input: TiersInput, names: readonly string[], auto: boolean): Pick<Tiers, 'tiers' | 'problems'> {
  const tiers = new Map<string, Tier>();
  const problems: TierProblem[] = [];
  const havers = haversOf(input);
  for (const [rank, name] of names.entries()) {
    const profiles = expandName(name, input.profiles, input.order);
    if (profiles.length === 0) {
      problems.push(unknownName(name, input.profiles));
      continue;
    }
    const present = profiles.flatMap((profile) => candidatesOf(profile, havers.get(profile) ?? [], input, auto, names));
    // None there: the first that could be used is what the others are told of.
    const candidates = present.length > 0 || auto ? present : absentOnes(profiles, input);
    const outs: TierProblem[] = [];
    let any = false;
    for (const candidate of candidates) {
      const tier = tierOf(name, rank, candidate, input);
      if ('reason' in tier) {
        outs.push(tier);
        continue;
      }
      any = true;
      if (!tiers.has(tier.name)) tiers.set(tier.name, tier);
    }
    const [out] = outs;
    if (!any && out !== undefined) problems.push(out);
  }
  return { tiers: [...tiers.values()].slice(0, MAX_TIERS), problems };
}

function unknownName(name: string, profiles: Profiles): TierProblem {
  const known = [...profiles.keys()].join(', ');
  const message = ['npu', 'gpu', 'cpu'].includes(name)
    ? `the operator has no profile of class ${name}: add one to the chart's hardware.profiles`
    : `there is no hardware profile ${name}: write npu, gpu, cpu or one of ${known}, or add it to the chart's hardware.profiles`;
  return { name, reason: 'UnknownProfile', message };
}

/** A node that has something of a profile. */
interface Haver extends Present {
  readonly node: NodeStock;
}

/** Nodes by the profiles that they have something of. */
function haversOf({ nodes, profiles }: TiersInput): ReadonlyMap<HardwareProfile, readonly Haver[]> {
  const havers = new Map<HardwareProfile, Haver[]>();
  for (const node of nodes) {
    if (node.deleted) continue;
    for (const present of presentOn(node, profiles)) {
      const known = havers.get(present.profile);
      if (known === undefined) havers.set(present.profile, [{ ...present, node }]);
      else known.push({ ...present, node });
    }
  }
  return havers;
}

/** A profile's resources that nodes have; for a deployment that names none only on nodes where its pods may go. */
function candidatesOf(
  profile: HardwareProfile,
  havers: readonly Haver[],
  { deployment, nodes }: TiersInput,
  auto: boolean,
  names: readonly string[],
): Candidate[] {
  if (profile.name === CPU_TIER) return [{ profile, resource: undefined }];
  const settings = deployment.spec.podTemplate?.spec;
  const tolerations = tolerationsOf(profile, deployment);
  const there = auto ? havers.filter(({ node }) => isEligible(node, settings?.nodeSelector, tolerations)) : havers;
  if (profile.resources.length === 0) {
    // Nobody but the DRA driver knows whether there are any; a deployment that names none does not bet on it.
    const byClaim = profile.nodeLabels.length === 0 && names.includes(profile.name) && nodes.length > 0;
    return byClaim || there.some(({ told }) => told) ? [{ profile, resource: undefined }] : [];
  }
  const resources = new Set(there.flatMap((haver) => haver.resources));
  const first = firstResource(profile);
  // A label without a plugin is worth a sentence to those who ask for it, and nothing to others.
  if (!auto && first !== undefined && there.some((haver) => haver.told && haver.resources.length === 0))
    resources.add(first);
  if (resources.size < 2) return [...resources].map((resource) => ({ profile, resource }));
  const sizes = new Map([...resources].map((resource) => [resource, sliceSize(profile, resource, there)]));
  return [...resources]
    .toSorted((a, b) => placeOf(profile, a) - placeOf(profile, b) || (sizes.get(a) ?? 0) - (sizes.get(b) ?? 0))
    .map((resource) => ({ profile, resource }));
}

/** The smallest slice that fits leaves the larger ones to larger models. */
function sliceSize(profile: HardwareProfile, resource: string, havers: readonly Haver[]): number {
  for (const { node } of havers) {
    const bytes = deviceMemory(profile, resource, node);
    if (bytes !== undefined) return bytes;
  }
  return 0;
}

/** Place of the pattern that a resource comes from. */
function placeOf(profile: HardwareProfile, resource: string): number {
  const exact = profile.resources.indexOf(resource);
  return exact >= 0 ? exact : profile.resources.findIndex((pattern) => pattern.includes('*'));
}

function firstResource(profile: HardwareProfile): string | undefined {
  return profile.resources.find((resource) => !resource.includes('*'));
}

/** The first profile of the line that could be used if nodes had it, else all, for what they lack. */
function absentOnes(profiles: readonly HardwareProfile[], input: TiersInput): Candidate[] {
  const candidates = profiles.map((profile) => ({ profile, resource: firstResource(profile) }));
  const usable = candidates.find((candidate) => !('reason' in tierOf('', 0, candidate, input)));
  return usable === undefined ? candidates : [usable];
}

/** Tolerations of a tier's pods: the deployment's and the profile's. */
export function tolerationsOf(
  profile: Pick<HardwareProfile, 'tolerations'>,
  deployment: SLMDeployment,
): NonNullable<NonNullable<NonNullable<SLMDeployment['spec']['podTemplate']>['spec']>['tolerations']> {
  const own = deployment.spec.podTemplate?.spec?.tolerations ?? [];
  return profile.tolerations.length === 0 ? own : [...own, ...(profile.tolerations as typeof own)];
}

function tierOf(name: string, rank: number, { profile, resource }: Candidate, input: TiersInput): Tier | TierProblem {
  const { deployment, model, revision, images } = input;
  if (profile.unusable !== undefined) return { name, reason: 'ClaimsNotServed', message: profile.unusable };
  const image = imageOf(profile, deployment, images);
  if (image === undefined) return { name, reason: 'NoServerImage', message: noImage(profile, images) };
  const bytes = bytesOf(profile, model, revision, deployment);
  if (bytes === undefined) return { name, reason: 'NoVariant', message: noVariant(profile, model) };

  const engine = resolveEngine(deployment.spec.engine, bytes);
  const offload = profile.class === 'cpu' ? undefined : { gpuLayers: deployment.spec.engine?.gpuLayers };
  const memory = estimateMemory(bytes.size, bytes, engine, deployment.spec, offload);
  const count = profile.class === 'cpu' && resource === undefined ? 0 : (deployment.spec.hardware?.count ?? 1);
  return {
    name: tierName(profile, resource),
    class: profile.class,
    profile,
    rank,
    resource,
    claim: profile.claim,
    count,
    bytes,
    device: profile.name === CPU_TIER ? undefined : profile.device,
    image,
    engine,
    memory,
    resources: withDevice(resourcesFor(deployment.spec.resources, memory), resource, count),
  };
}

/** Key into `images`, or a reference; undefined when nobody has one. */
function imageOf(
  profile: HardwareProfile,
  deployment: SLMDeployment,
  images: Readonly<Record<string, string>>,
): string | undefined {
  const { image } = profile;
  if (deployment.spec.image !== undefined) return image ?? 'cpu';
  if (image === undefined || isImageReference(image)) return image;
  return images[image] === undefined ? undefined : image;
}

function noImage(profile: HardwareProfile, images: Readonly<Record<string, string>>): string {
  if (profile.image === undefined) {
    return `no server image computes on ${profile.name}: name one in the chart's hardware.profiles.${profile.name}.image, or in spec.image`;
  }
  return `the operator has no server image ${profile.image} for ${profile.name} (it has ${Object.keys(images).join(', ')}): add it to the chart's serverImage.variants, or set spec.image`;
}

function noVariant(profile: HardwareProfile, model: SLMModel): string {
  return `model ${model.metadata.name} has no file for ${profile.class}: add an entry with accelerators: [${profile.class}] to spec.variants of SLMModel ${model.metadata.name}`;
}

/** The files for a profile: those of a variant for it, else of one for its class, else the model's own if they can be computed there. */
function bytesOf(
  profile: HardwareProfile,
  model: SLMModel,
  revision: ModelRevision,
  deployment: SLMDeployment,
): TierBytes | undefined {
  const variants = revision.variants ?? [];
  const variant =
    variants.find(({ accelerators }) => accelerators.includes(profile.name)) ??
    variants.find(({ accelerators }) => accelerators.includes(profile.class));
  if (variant !== undefined) {
    const { name, digest, size, files, sources, metadata, estimate } = variant;
    return { variant: name, digest, size, files, sources, ...known(metadata, estimate) };
  }
  const { digest, size, files, sources } = revision;
  const { metadata, estimate } = model.status ?? {};
  const format = metadata?.format ?? 'GGUF';
  // An image of the deployment's own is its author's choice.
  if (deployment.spec.image === undefined && !profile.formats.includes(format)) return undefined;
  return { variant: undefined, digest, size, files, sources, ...known(metadata, estimate) };
}

function known(metadata: TierBytes['metadata'], estimate: TierBytes['estimate']) {
  return { ...(metadata === undefined ? {} : { metadata }), ...(estimate === undefined ? {} : { estimate }) };
}

/** What a pod of the tier takes from a node. */
export function requestsOfTier({ resources }: Pick<Tier, 'resources'>): Amounts {
  return { ...amountsOf({ ...resources.limits, ...resources.requests }), pods: 1 };
}

function withDevice(resources: Resources, resource: string | undefined, count: number): Resources {
  if (resource === undefined || count === 0) return resources;
  const device = { [resource]: String(count) };
  return { requests: { ...resources.requests, ...device }, limits: { ...resources.limits, ...device } };
}
