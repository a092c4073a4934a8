import { UnderstudyError } from '../../common/errors.ts';

type Labels = Readonly<Record<string, string>>;
type Requirement = (labels: Labels) => boolean;

/**
 * A label selector in Kubernetes' text form: `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin (b,c)`, `a`, `!a`, joined by
 * commas. Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
 * @throws UnderstudyError Invalid
 */
export function parseLabelSelector(text: string): (labels: Labels | undefined) => boolean {
  const requirements = splitTerms(text).map(parseTerm);
  return (labels) => requirements.every((holds) => holds(labels ?? {}));
}

/** Splits at commas that are not within parentheses. */
function splitTerms(text: string): string[] {
  return text
    .split(/,(?![^(]*\))/)
    .map((term) => term.trim())
    .filter((term) => term !== '');
}

function parseTerm(term: string): Requirement {
  const set = /^(\S+)\s+(in|notin)\s+\(([^)]*)\)$/.exec(term);
  if (set) {
    const [, key = '', operator, list = ''] = set;
    const values = new Set(list.split(',').map((value) => value.trim()));
    return (labels) => values.has(labels[key] ?? '\0') === (operator === 'in');
  }
  const equality = /^([^\s=!]+)\s*(==|=|!=)\s*(\S*)$/.exec(term);
  if (equality) {
    const [, key = '', operator, value = ''] = equality;
    return (labels) => (labels[key] === value) === (operator !== '!=');
  }
  const existence = /^(!?)\s*([^\s=!]+)$/.exec(term);
  if (existence) {
    const [, not, key = ''] = existence;
    return (labels) => (labels[key] === undefined) === (not === '!');
  }
  throw new UnderstudyError(
    'Invalid',
    `"${term}" is not a label selector: expected something like app=db or tier in (a,b)`,
  );
}
