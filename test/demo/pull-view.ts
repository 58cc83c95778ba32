/**
 * Owns how a pull looks: one bar for each node, from what SLMModel and SLMNodeCache say. Pure text; `live-block.ts` puts it on
 * a terminal.
 */
import type { EntryState, SLMModel, SLMNodeCache } from '@slm-operator/crds';

/** How far one node is with one revision. */
export interface NodePull {
  readonly node: string;
  /** `Unknown`: the agent has not reported yet. */
  readonly state: EntryState | 'Unknown';
  readonly done: number;
  readonly total: number;
  /** Bytes a second. */
  readonly rate: number;
  readonly problem?: string;
}

/** The nodes that are to hold the latest revision of the model, by name. Empty while the model is not resolved. */
export function pullsOf(model: SLMModel | undefined, caches: readonly SLMNodeCache[]): NodePull[] {
  const revision = model?.status?.latestRevision;
  if (!revision) return [];
  return caches
    .filter((cache) => cache.spec?.wanted?.some((wanted) => wanted.digest === revision.digest))
    .map((cache): NodePull => {
      const entry = cache.status?.entries?.find((candidate) => candidate.digest === revision.digest);
      const problem = entry?.error ? `${entry.error.reason}: ${entry.error.message}` : undefined;
      return {
        node: cache.metadata.name,
        state: entry?.state ?? 'Unknown',
        done: entry?.state === 'Ready' ? revision.size : (entry?.bytesDone ?? 0),
        total: revision.size,
        rate: entry?.bytesPerSecond ?? 0,
        ...(problem ? { problem } : {}),
      };
    })
    .toSorted((a, b) => (a.node < b.node ? -1 : 1));
}

const BAR = 28;

/** One line for each node, such as `n1  ████████────  62%  61.0 of 98.4 MB  41.2 MB/s  1 s left`. */
export function pullLines(pulls: readonly NodePull[]): string[] {
  const width = Math.max(0, ...pulls.map((pull) => pull.node.length));
  return pulls.map((pull) => {
    const part = pull.total === 0 ? 1 : Math.min(1, pull.done / pull.total);
    const filled = Math.floor(part * BAR);
    const bar = '█'.repeat(filled) + '─'.repeat(BAR - filled);
    return `  ${pull.node.padEnd(width)}  ${bar} ${String(Math.floor(part * 100)).padStart(3)}%  ${detail(pull)}`;
  });
}

function detail(pull: NodePull): string {
  const total = megabytes(pull.total);
  if (pull.state === 'Ready') return `${total} MB verified`;
  if (pull.state === 'Verifying') return `${total} MB, verifying`;
  if (pull.state === 'Evicting') return 'being removed';
  if (pull.state !== 'Downloading')
    return pull.problem ?? (pull.state === 'Failed' ? 'failed' : 'waiting for its turn');
  const speed = `  ${megabytes(pull.rate)} MB/s  ${Math.ceil((pull.total - pull.done) / pull.rate)} s left`;
  return `${megabytes(pull.done)} of ${total} MB${pull.rate > 0 ? speed : ''}`;
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}
