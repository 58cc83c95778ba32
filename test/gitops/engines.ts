/**
 * What GitOps tools say of objects: kstatus' own library, Argo CD's engine with our health.lua, and Flux's engine with our
 * expressions, all three in a Go program beside this file. Owns asking it; judges nothing itself.
 */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { GROUP } from '@slm-operator/crds';
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
  readonly argo: Opinion;
  readonly flux: Opinion;
}

const docs = path.join(repoRoot, 'docs/gitops');
/** Kinds that people keep in Git. */
export const kindsInGit = ['SLMModel', 'SLMDeployment', 'SLMRollout'] as const;

/** Our health.lua. */
export function healthLua(): Promise<string> {
  return readFile(path.join(docs, 'argocd/health.lua'), 'utf8');
}

/** Our entries for `spec.healthCheckExprs` of a Flux Kustomization. */
export async function healthCheckExprs(): Promise<unknown> {
  return parse(await readFile(path.join(docs, 'flux/health-check-exprs.yaml'), 'utf8'));
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
