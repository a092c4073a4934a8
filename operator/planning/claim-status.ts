import type { Finding } from '../resources/conditions.ts';
import type { BindingFact } from './binding-fact.ts';

interface ClaimNames {
  readonly persistentVolumeName?: string | undefined;
  readonly claimName?: string | undefined;
}

/** The part of a status that is about the claim of the object; what cannot be told now stays as it was. */
export function claimStatus(before: ClaimNames | undefined, fact: BindingFact | undefined): ClaimNames {
  if (fact?.unwanted) return {};
  const persistentVolumeName = fact?.persistentVolumeName ?? before?.persistentVolumeName;
  const claimName = fact?.claimName ?? before?.claimName;
  return {
    ...(persistentVolumeName === undefined ? {} : { persistentVolumeName }),
    ...(claimName === undefined ? {} : { claimName }),
  };
}

export function claimFindings(fact: BindingFact | undefined): Finding[] {
  return fact?.finding === undefined ? [] : [fact.finding];
}

/** Reasons of Claimed that only a change of an object can end. */
export const standingClaimReasons: readonly string[] = ['ClaimConflict', 'ClaimDeleted'];
