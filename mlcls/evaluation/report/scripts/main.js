// The page comes to life.

setUpExplorer();
setUpDetail();
setUpGallery();
setUpLists();
document.documentElement.dataset.ready = 'yes';
performance.mark('usable');
