import { annotations, type SLMDeploymentSpec, type Strategy } from '@slm-operator/crds';
import { describe, expect, it } from 'vitest';
import { type Choose, seeded } from '../../hardware/testing/choices.ts';
import { GPU } from '../testing/hardware-plans.ts';
import type { Quality } from '../testing/strategy-answers.ts';
import { StrategySimulation } from '../testing/strategy-simulation.ts';

const smokeTests = [{ name: 'capital', prompt: 'The capital of France?', contains: 'Paris' }];

/** A world that looks random and comes again with its seed. */
class Chaos {
  readonly pick: Choose;
  readonly simulation: StrategySimulation;
  #letter = 'A';
  #devices = 6;
  readonly good = new Set(['A']);

  constructor(seed: number) {
    this.pick = seeded(seed);
    const isShort = this.pick(4) === 0;
    const strategy = this.#strategy();
    const spec: Partial<SLMDeploymentSpec> = {
      replicas: 1 + this.pick(5),
      strategy,
      ...(isShort ? { hardware: { preferred: 'gpu', policy: 'Never' } } : {}),
    };
    this.simulation = new StrategySimulation(spec);
    this.simulation.isShort = isShort;
    if (isShort) {
      this.#devices = (spec.replicas ?? 1) + this.pick(2);
      this.simulation.node('g1', { [GPU]: this.#devices, pods: 200 });
    }
  }

  one<T>(...values: readonly T[]): T {
    return values[this.pick(values.length)] as T;
  }

  #strategy(): Strategy {
    const type = this.one<NonNullable<Strategy['type']>>(
      'Rolling',
      'Recreate',
      'Canary',
      'Canary',
      'BlueGreen',
      'BlueGreen',
    );
    const isBounded = type === 'Rolling' || type === 'Canary';
    const weights = [this.pick(40), 40 + this.pick(40), 100].slice(0, 1 + this.pick(3));
    const steps = weights.map((weight) => ({
      weight,
      ...(this.pick(2) === 0 ? { pause: '2m' } : {}),
      ...(this.pick(4) === 0 ? { requireApproval: true } : {}),
    }));
    const gates = this.pick(2) === 0 ? { errorRate: { maxPercent: 5 } } : {};
    const smoke = this.pick(2) === 0 ? { smokeTests } : {};
    return {
      ...(type === 'Rolling' && this.pick(2) === 0 ? {} : { type }),
      ...(isBounded
        ? this.one<Strategy>({}, {}, { maxSurge: 1 }, { maxSurge: '50%' }, { maxSurge: 0, maxUnavailable: 1 })
        : {}),
      ...(type === 'Canary' && this.pick(3) > 0 ? { canary: { steps } } : {}),
      ...(type === 'BlueGreen' && this.pick(2) === 0
        ? { blueGreen: { soak: '1m', requireApproval: this.pick(2) === 0 } }
        : {}),
      ...(Object.keys({ ...gates, ...smoke }).length === 0 ? {} : { analysis: { ...gates, ...smoke } }),
    };
  }

  #event(): void {
    const { simulation } = this;
    switch (this.pick(7)) {
      case 0:
      case 1:
      case 2: {
        this.#letter = String.fromCharCode(this.#letter.charCodeAt(0) + 1);
        const quality = this.one<Quality>(
          {},
          {},
          { pods: 'hangs' },
          { pods: 'crashes' },
          { failsSmoke: true },
          { failsAt: 1 + this.pick(100) },
        );
        simulation.qualities.set(this.#letter, quality);
        if (Object.keys(quality).length === 0) this.good.add(this.#letter);
        simulation.ask(this.#letter);
        break;
      }
      case 3:
        simulation.ask('A');
        break;
      case 4:
        simulation.change('size', { replicas: 1 + this.pick(this.#devices) });
        break;
      case 5:
        simulation.change('pause or go on', { paused: simulation.object.spec.paused !== true });
        break;
      default:
        simulation.annotate('try again', { [annotations.retry]: String(this.pick(1000)) });
    }
  }

  play(): this {
    const { simulation, pick } = this;
    simulation.settle(pick);
    for (let events = 1 + pick(4); events > 0; events--) {
      simulation.losesStatus = pick(2) === 0 ? () => false : () => pick(3) === 0;
      this.#event();
      // Into the middle of it, or to where it waits for time or for people.
      const steps = pick(3) === 0 ? 20_000 : 3 + pick(60);
      simulation.settle(pick, { steps, until: simulation.clock.now() + pick(400) * 1000 });
    }
    simulation.losesStatus = () => false;
    simulation.change('go on', { paused: false });
    for (let approvals = 0; approvals < 3; approvals++) {
      simulation.settle(pick);
      const asked = simulation.status.updateRevision;
      simulation.annotate('approve', { [annotations.approvedRevision]: asked });
    }
    simulation.settle(pick);
    return this;
  }
}

/** Who serves in the end, and what is said of that. */
function ending(chaos: Chaos): string {
  const { simulation } = chaos;
  const { replicas = 1 } = simulation.object.spec;
  const running = Object.entries(simulation.running());
  const asked = simulation.letter(simulation.status.updateRevision);
  const [first] = running;
  if (running.length !== 1 || first === undefined) return `${running.length} revisions have pods`;
  const [serving, pods] = first;
  if (pods !== replicas) return `${pods} of ${replicas} pods of ${serving} serve: ${simulation.summary()}`;
  if (serving === asked)
    return simulation.summary() === 'Ready=True Ready, Available=True Available' ? 'new' : simulation.summary();
  const back = 'Ready=False RolledBack, Stalled=True RolledBack, Available=True Available, RolledBack=True RolledBack';
  return simulation.summary() === back && !chaos.good.has(asked)
    ? 'back'
    : `${serving} for ${asked}: ${simulation.summary()}`;
}

describe('whatever happens in the middle of a rollout', () => {
  it.each(Array.from({ length: 16 }, (_, index) => index))(
    'users are served, and it ends (seeds from %i00)',
    (hundred) => {
      for (let seed = hundred * 100; seed < hundred * 100 + 25; seed++) {
        const chaos = new Chaos(seed);
        let end: string;
        try {
          end = ending(chaos.play());
        } catch (error) {
          end = String(error);
        }
        if (end === 'new' || end === 'back') continue;
        const { object, log } = chaos.simulation;
        expect.fail(`seed ${seed}: ${end}\n${JSON.stringify(object.spec)}\n${log.slice(-24).join('\n')}`);
      }
    },
  );
});
