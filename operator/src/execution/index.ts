/** Plans and their execution. */
export * from './execute.ts';
export * from './kinds.ts';
export * from './plan.ts';
export * from './refusal.ts';
