/**
 * Owns counting what each user asks of an API server, by the server's own audit log: writes alone, without their bodies, one line
 * each as soon as it is answered.
 */
import { type FileHandle, open, writeFile } from 'node:fs/promises';
import path from 'node:path';

/** One write. */
export interface Write {
  readonly user: string;
  readonly verb: string;
  /** `plural.group`, and `/status` or another subresource. */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  /** Of the answer. */
  readonly code: number;
  /** When the request came and when its answer went, milliseconds since 1970. */
  readonly begun: number;
  readonly ended: number;
}

const policy = {
  apiVersion: 'audit.k8s.io/v1',
  kind: 'Policy',
  omitStages: ['RequestReceived'],
  omitManagedFields: true,
  rules: [{ level: 'Metadata', verbs: ['create', 'update', 'patch', 'delete', 'deletecollection'] }, { level: 'None' }],
};

/** Writes the policy to a folder; answers the flags that make a kube-apiserver follow it, and the file that it writes. */
export async function prepareAudit(folder: string): Promise<{ flags: Record<string, string>; file: string }> {
  const policyFile = path.join(folder, 'audit-policy.json');
  const file = path.join(folder, 'audit.log');
  await writeFile(policyFile, JSON.stringify(policy));
  return { flags: { 'audit-policy-file': policyFile, 'audit-log-path': file, 'audit-log-mode': 'blocking' }, file };
}

/** Reads an audit log bit by bit. */
export interface AuditLog extends AsyncDisposable {
  /** What was written since the last call. */
  read(): Promise<Write[]>;
}

/** Opens the log of a server that runs. */
export async function openAudit(file: string): Promise<AuditLog> {
  const handle: FileHandle = await open(file, 'r');
  let offset = 0;
  let rest = '';
  return {
    async read() {
      const { size } = await handle.stat();
      const buffer = Buffer.alloc(size - offset);
      const { bytesRead } = await handle.read(buffer, 0, buffer.byteLength, offset);
      offset += bytesRead;
      const lines = (rest + buffer.toString('utf8', 0, bytesRead)).split('\n');
      rest = lines.pop() ?? '';
      return lines.flatMap((line) => parseWrite(line) ?? []);
    },
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

interface AuditEvent {
  readonly stage?: string;
  readonly verb?: string;
  readonly user?: { readonly username?: string };
  readonly objectRef?: {
    readonly resource?: string;
    readonly subresource?: string;
    readonly apiGroup?: string;
    readonly namespace?: string;
    readonly name?: string;
  };
  readonly responseStatus?: { readonly code?: number };
  readonly requestReceivedTimestamp?: string;
  readonly stageTimestamp?: string;
}

/** A line of the log; undefined when it tells of no answered write. Exported for its test. */
export function parseWrite(line: string): Write | undefined {
  if (line === '') return undefined;
  const event = JSON.parse(line) as AuditEvent;
  const { objectRef: ref } = event;
  if (event.stage !== 'ResponseComplete' || ref === undefined) return undefined;
  const plural = ref.apiGroup ? `${ref.resource}.${ref.apiGroup}` : (ref.resource ?? '');
  return {
    user: event.user?.username ?? '',
    verb: event.verb ?? '',
    resource: ref.subresource ? `${plural}/${ref.subresource}` : plural,
    namespace: ref.namespace ?? '',
    name: ref.name ?? '',
    code: event.responseStatus?.code ?? 0,
    begun: Date.parse(event.requestReceivedTimestamp ?? ''),
    ended: Date.parse(event.stageTimestamp ?? ''),
  };
}

/** Renewals of leases go on for ever. */
export function isLeaseWrite({ resource }: Write): boolean {
  return resource.startsWith('leases.');
}

/** Told to people, in `kubectl describe`, and gone after an hour. */
export function isEventWrite({ resource }: Write): boolean {
  return resource.startsWith('events');
}

/** `verb resource` → how many. */
export function countByKind(writes: readonly Write[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { verb, resource } of writes) {
    const what = `${verb} ${resource}`;
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  return new Map([...counts].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}
