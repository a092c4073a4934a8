export type { MountService } from '../volume/mount-service.ts';
