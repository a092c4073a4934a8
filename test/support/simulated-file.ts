import type { Extent } from '../../agent/core/block-device.ts';
import type { Random } from './random.ts';

const sectorBytes = 512;
const pageBytes = 4096;

/** What a file holds, and held since its last sync. */
export class FileContent {
  size: number;
  /** Sectors on stable storage; a missing one is zero. */
  readonly #durable = new Map<number, Uint8Array>();
  /** Versions of a sector since its last sync, oldest first. */
  readonly #unsynced = new Map<number, Uint8Array[]>();
  /** Of a failed sync: reads still find it, but no later sync writes it. */
  readonly #cachedOnly = new Map<number, Uint8Array>();
  readonly #allocated = new Set<number>();

  constructor(size: number) {
    this.size = size;
  }

  get allocatedBytes(): number {
    return this.#allocated.size * pageBytes;
  }

  read(offset: number, target: Uint8Array): void {
    this.#eachSector(offset, target.byteLength, (sector, start, end, within) => {
      const content = this.#current(sector);
      target.set(end - start === sectorBytes ? content : content.subarray(start, end), within);
    });
  }

  write(offset: number, data: Uint8Array): void {
    this.allocate(offset, data.byteLength);
    this.#eachSector(offset, data.byteLength, (sector, start, end, within) => {
      const written = data.subarray(within, within + end - start);
      const whole = written.byteLength === sectorBytes;
      const version = Uint8Array.from(whole ? written : this.#current(sector));
      if (!whole) version.set(written, start);
      this.#addVersion(sector, version);
    });
  }

  zero(offset: number, length: number, space: 'keep' | 'release'): void {
    const end = offset + length;
    const written = [...new Set([...this.#durable.keys(), ...this.#unsynced.keys(), ...this.#cachedOnly.keys()])];
    for (const sector of written) {
      const from = Math.max(offset - sector * sectorBytes, 0);
      const to = Math.min(end - sector * sectorBytes, sectorBytes);
      if (from >= to) continue;
      const version = Uint8Array.from(this.#current(sector));
      version.fill(0, from, to);
      this.#addVersion(sector, version);
    }
    if (space === 'keep') return this.allocate(offset, length);
    for (const page of this.#allocated) {
      if (page * pageBytes >= offset && (page + 1) * pageBytes <= end) this.#allocated.delete(page);
    }
  }

  extents(offset: number, length: number): Extent[] {
    const end = offset + length;
    const extents: Extent[] = [];
    const pages = [...this.#allocated].filter((page) => (page + 1) * pageBytes > offset && page * pageBytes < end);
    let position = offset;
    for (const page of pages.sort((a, b) => a - b)) {
      const start = Math.max(page * pageBytes, offset);
      const stop = Math.min((page + 1) * pageBytes, end);
      if (start > position) extents.push({ length: start - position, zero: true, hole: true });
      const last = extents.at(-1);
      if (last && !last.hole) extents[extents.length - 1] = { ...last, length: last.length + stop - start };
      else extents.push({ length: stop - start, zero: false, hole: false });
      position = stop;
    }
    if (position < end) extents.push({ length: end - position, zero: true, hole: true });
    return extents;
  }

  resize(size: number): void {
    if (size < this.size) this.zero(size, this.size - size, 'release');
    this.size = size;
  }

  /** Bytes that writing a range would take more than it takes already. */
  allocationFor(offset: number, length: number): number {
    let bytes = 0;
    for (let page = Math.floor(offset / pageBytes); page * pageBytes < offset + length; page += 1) {
      if (!this.#allocated.has(page)) bytes += pageBytes;
    }
    return bytes;
  }

  allocate(offset: number, length: number): void {
    for (let page = Math.floor(offset / pageBytes); page * pageBytes < offset + length; page += 1) {
      this.#allocated.add(page);
    }
  }

  /** How many versions of which sectors a sync that begins now will make durable. */
  beginSync(): ReadonlyMap<number, Uint8Array> {
    const newest = new Map<number, Uint8Array>();
    for (const [sector, versions] of this.#unsynced) newest.set(sector, versions.at(-1) as Uint8Array);
    return newest;
  }

  endSync(synced: ReadonlyMap<number, Uint8Array>): void {
    for (const [sector, version] of synced) {
      const versions = this.#unsynced.get(sector);
      const index = versions?.indexOf(version) ?? -1;
      // Another sync, that began later, was over sooner.
      if (!versions || index < 0) continue;
      this.#durable.set(sector, version);
      this.#cachedOnly.delete(sector);
      if (index === versions.length - 1) this.#unsynced.delete(sector);
      else versions.splice(0, index + 1);
    }
  }

  crash(random: Random): void {
    for (const [sector, versions] of this.#unsynced) {
      const survivor = random.below(versions.length + 1);
      if (survivor > 0) this.#durable.set(sector, versions[survivor - 1] as Uint8Array);
    }
    const maybeRevived = [...this.#unsynced.keys(), ...this.#cachedOnly.keys()];
    this.#unsynced.clear();
    this.#cachedOnly.clear();
    // A hole that did not survive is data again.
    for (const sector of maybeRevived) {
      if (this.#current(sector).some((byte) => byte !== 0)) this.allocate(sector * sectorBytes, sectorBytes);
    }
  }

  /** As Linux does it: the pages count as clean although they never reached the disk. */
  failSync(): void {
    for (const [sector, versions] of this.#unsynced) this.#cachedOnly.set(sector, versions.at(-1) as Uint8Array);
    this.#unsynced.clear();
  }

  sector(sector: number, which: 'current' | 'durable'): Uint8Array {
    return which === 'current' ? this.#current(sector) : (this.#durable.get(sector) ?? zeroSector);
  }

  flip(offset: number, mask: number): void {
    const sector = Math.floor(offset / sectorBytes);
    const version = Uint8Array.from(this.#current(sector));
    const within = offset % sectorBytes;
    version[within] = (version[within] as number) ^ mask;
    this.#unsynced.delete(sector);
    this.#cachedOnly.delete(sector);
    this.#durable.set(sector, version);
  }

  writtenPages(): number[] {
    return [...this.#allocated].sort((a, b) => a - b).map((page) => page * pageBytes);
  }

  #current(sector: number): Uint8Array {
    return (
      this.#unsynced.get(sector)?.at(-1) ?? this.#cachedOnly.get(sector) ?? this.#durable.get(sector) ?? zeroSector
    );
  }

  #addVersion(sector: number, version: Uint8Array): void {
    const versions = this.#unsynced.get(sector);
    if (versions) versions.push(version);
    else this.#unsynced.set(sector, [version]);
  }

  #eachSector(
    offset: number,
    length: number,
    visit: (sector: number, start: number, end: number, within: number) => void,
  ): void {
    let within = 0;
    while (within < length) {
      const sector = Math.floor((offset + within) / sectorBytes);
      const start = (offset + within) % sectorBytes;
      const end = Math.min(sectorBytes, start + length - within);
      visit(sector, start, end, within);
      within += end - start;
    }
  }
}

const zeroSector = new Uint8Array(sectorBytes);
