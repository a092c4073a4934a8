import type { Row } from './row.ts';
import { mirrorRows } from './rows/mirror.ts';
import { singleRows } from './rows/single.ts';

/** In the order of the table. */
export const allRows: readonly Row[] = [...mirrorRows, ...singleRows];
