/**
 * What GitOps tools say of objects: kstatus' own library, Argo CD's engine with our health.lua, and Flux's engine with our
 * expressions, all three in a Go program beside this file. Owns asking it, and what must hold of the answers.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { GROUP, type SLMDeployment } from '@slm-operator/crds';
import { parse } from 'yaml';
import { repoRoot } from '../cache.ts';
import { runCommand } from '../cluster/command.ts';
import { builtProgram } from '../reference/build.ts';

/** What one tool says; `error` when it cannot say anything. */
export interface Opinion {
  readonly status?: string;
  readonly message?: string;
  readonly error?: string;
}

/** What all of them say of one object. */
export interface Verdict {
  readonly kstatus: Opinion;
  /** The kstatus that Flux and Helm carry. */
  readonly fluxKstatus: Opinion;
  /** Of kinds that are in Git. */
  readonly argo: Opinion;
  readonly flux: Opinion;
}

/** The folder of the guide. */
export const gitopsDocs = path.join(repoRoot, 'docs/gitops');
/** Kinds that people keep in Git. */
export const kindsInGit = ['SLMModel', 'SLMDeployment', 'SLMRollout'] as const;

/** Our health.lua. */
export function healthLua(): Promise<string> {
  return readFile(path.join(gitopsDocs, 'argocd/health.lua'), 'utf8');
}

/** Our entries for `spec.healthCheckExprs` of a Flux Kustomization. */
export async function healthCheckExprs(): Promise<unknown> {
  return parse(await readFile(path.join(gitopsDocs, 'flux/health-check-exprs.yaml'), 'utf8'));
}

/** Verdicts of all tools, in the order of the objects. Builds the program when it is not there: a minute or two. */
export async function judge(objects: readonly object[]): Promise<Verdict[]> {
  const program = await builtProgram(path.join(import.meta.dirname, 'go'), 'gitops');
  const script = await healthLua();
  const input = JSON.stringify({
    objects,
    healthLua: Object.fromEntries(kindsInGit.map((kind) => [`${GROUP}/${kind}`, script])),
    healthCheckExprs: await healthCheckExprs(),
  });
  return JSON.parse(await runCommand([program], { input })) as Verdict[];
}

/** `kstatus/Argo CD/Flux`, with what cannot be judged spelled out. */
export function textOf({ kstatus, argo, flux }: Verdict): string {
  return [kstatus, argo, flux].map(({ status, error }) => error ?? status).join('/');
}

export const moving = 'InProgress/Progressing/InProgress';
export const ready = 'Current/Healthy/Current';
export const failed = 'Failed/Degraded/Failed';
/** Somebody else ends it, and users are served. */
export const held = 'InProgress/Suspended/Current';

/** Verdicts over versions of an object in their order, each once as long as it lasts. */
export async function storyOf(moments: readonly { readonly object: object }[]): Promise<string[]> {
  const said = (await judge(moments.map(({ object }) => object))).map(textOf);
  return said.filter((text, index) => text !== said[index - 1]);
}

const heldPhases = ['Paused', 'WaitingForApproval', 'WaitingForWave'];

/** What is wrong with a verdict on a deployment, if anything is. `whole`: it has all that its spec asks for, and nothing else. */
export function problemOf(
  said: Verdict,
  { object, whole }: { readonly object: SLMDeployment; readonly whole: boolean },
): string | undefined {
  const { kstatus, argo, flux, fluxKstatus } = said;
  const { metadata, spec, status } = object;
  for (const { error } of [kstatus, argo, flux, fluxKstatus]) if (error !== undefined) return error;
  if (kstatus.status !== fluxKstatus.status) return 'the two kstatus differ';
  if (status?.observedGeneration !== metadata.generation)
    return textOf(said) === moving ? undefined : 'a spec that nobody has acted on is not moving';
  if (kstatus.status === 'Current' && !whole) return 'Current too early';
  const isHeld = spec.paused === true || heldPhases.includes(status?.rollout?.phase ?? '');
  if (isHeld && argo.status !== 'Degraded')
    return argo.status === 'Suspended' ? undefined : 'held, and Argo CD does not say so';
  const expected = { Current: ready, Failed: failed }[kstatus.status ?? ''] ?? moving;
  return textOf(said) === expected ? undefined : 'the tools differ';
}
