/**
 * What analysis tells a rollout: whether the gates hold (`GateState`) and whether the smoke tests passed (`SmokeState`).
 * Types alone; planners read them and know nothing of how they came about.
 */

/** As in `status.rollout.analysis`. */
export type ItemResult = 'Passed' | 'Failed' | 'Waiting';

/** One gate or one smoke test. */
export interface AnalysisItem {
  /** errorRate, ttftP95, tokensPerSecond, or `smoke/NAME`. */
  readonly name: string;
  readonly result: ItemResult;
  /** What the candidate was measured at, with its unit, such as `4.2 %`; absent while too little is known. */
  readonly value?: string | undefined;
  /** The same of the stable revision, where the gate compares. */
  readonly baseline?: string | undefined;
  /** One sentence. Does not change while it waits, so that waiting costs no status writes. */
  readonly message?: string | undefined;
}

/** What the candidate's requests say. */
export interface GateState {
  /** What was measured; a state of another subject says nothing of the present step. Absent with `none`. */
  readonly subject?: AnalysisSubject | undefined;
  /**
   * - `none`: there are no metric gates
   * - `waiting`: not judged yet: the window is not over, or requests are too few and `onTooFewRequests` is Wait
   * - `passed`: every gate holds, or there were too few requests and that is allowed
   * - `failed`: a gate does not hold. Told before the window is over when there are enough requests.
   */
  readonly result: 'none' | 'waiting' | 'passed' | 'failed';
  readonly items: readonly AnalysisItem[];
  /** One sentence that a person can act on: of a failure the numbers, of waiting what for. Empty when there is nothing to say. */
  readonly why: string;
}

/** Whether the smoke tests have passed on the candidate. */
export interface SmokeState {
  /** The revision that was asked. Absent with `none`. */
  readonly candidate?: string | undefined;
  /**
   * - `none`: there are no smoke tests
   * - `running`: they are being asked, or wait for a pod of the candidate that can be asked
   * - `passed`: all of them, and it is noted on the revision, so that they are not asked again
   * - `failed`: the revision must not serve
   */
  readonly state: 'none' | 'running' | 'passed' | 'failed';
  /** One sentence: of a failure which test and what was expected, of `running` what it waits for. */
  readonly message?: string | undefined;
  readonly results: readonly AnalysisItem[];
}

export const NO_GATES: GateState = { result: 'none', items: [], why: '' };
export const NO_SMOKE: SmokeState = { state: 'none', results: [] };

/** Whose pods are measured: those of the revision that a rollout goes to, and those that serve meanwhile. */
export interface AnalysisSubject {
  /** Deployment revision of the candidate. */
  readonly candidate: string;
  /** Deployment revision that serves; undefined where there is none to compare with or to go back to. */
  readonly stable: string | undefined;
  /**
   * Since when the present step lasts, milliseconds since 1970: what was before it is not judged. Undefined: the candidate gets no
   * requests yet, and only the stable revision is measured, to compare with later.
   */
  readonly since: number | undefined;
}
